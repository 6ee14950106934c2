#!/usr/bin/env python3
"""What light does to the decodes: disturbed recordings against the same ones left alone.

Simulated flies go through `haltere embed` (the daemon's own corridor) with the shipped model, once as they are and once for each
disturbance. For each row: how many decodes were `ok` while it lasted, how many actions were those of the undisturbed run from two seconds
after its end, how far the embeddings then were (1 - cosine, mean; in brackets as a share of the mean distance between two
undisturbed decodes), how many decodes are bit for bit those of a run in which these frames never came, and whether the log told it. Two
undisturbed runs of which one begins two seconds later show what that many frames change by themselves. Recordings given with --recording (raw uint16, TYPE:SHAPE as `--raw` takes it) are
disturbed alike, with an untrained model: their actions mean nothing and are left out. A run that starts in the dark is compared with
one that starts when the light comes, because the template is that of other frames than in a run from the first frame on.

  benches/light.py [--haltere target/release/haltere] [--seconds 120] [--seeds 7:9,3:11] [--recording FILE.raw:1x128x128:16 ...]

Needs numpy.
"""

import argparse
import csv
import os
import pathlib
import platform
import re
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP = 65535


def dark(frames, random):
    """Noise of the electronics about the darkest counts that the recording has."""
    return np.clip(random.normal(np.percentile(frames[:50], 0.5), 9, frames.shape), 0, TOP)


def bands(frames, random):
    lit = frames.astype(float)
    rows = frames.shape[2]
    lit[:, :, rows // 4 : rows // 2] += 3 * contrast(frames)
    return np.clip(lit, 0, TOP)


def contrast(frames):
    """Mean light above the background of the recording."""
    return float(frames.mean() - np.percentile(frames, 2))


def disturbances(rate, begins, count):
    """Name, the frames it lasts, and what it makes of them."""
    second = int(round(rate))
    span = lambda count: list(range(begins, begins + count))
    brighter = lambda counts: lambda frames, random: np.clip(frames.astype(float) + counts, 0, TOP)
    flash = lambda frames, random: np.clip(frames.astype(float) + 3 * contrast(frames), 0, TOP)
    return [
        ("one saturated frame", span(1), lambda frames, random: np.full(frames.shape, TOP)),
        ("three dark frames", span(3), dark),
        ("sixteen dark frames", span(16), dark),
        ("shutter for 2 s", span(2 * second), dark),
        ("flash of every tenth frame, 10 s", list(range(begins, min(begins + 10 * second, count - 3 * second), 10)), flash),
        ("lit lines for 1 s", span(second), bands),
        ("+300 counts for 2 s", span(2 * second), brighter(300)),
        ("150 dark frames at the start", list(range(150)), dark),
    ]


def embed(haltere, model, frames, rate, folder, name):
    """Quality, action and embedding of every frame, and what the log told."""
    raw = folder / f"{name}.raw"
    frames.astype("<u2").tofile(raw)
    channels, rows, columns = frames.shape[1:]
    layout = f"uint16:{channels}x{rows}x{columns}" if channels > 1 else f"uint16:{rows}x{columns}"
    out, table = folder / f"{name}.npy", folder / f"{name}.csv"
    command = [haltere, "embed", raw, "--raw", layout, "--rate", str(rate), "--model", model, "--out", out, "--csv", table]
    done = subprocess.run([str(c) for c in command] + ["--progress", "never"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    with open(table) as file:
        rows = list(csv.DictReader(file))
    raw.unlink()
    return [r["quality"] for r in rows], [r["action"] for r in rows], np.load(out), done.stderr


def distance(a, b):
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return 1 - (a * b).sum(1) / np.maximum(norm, 1e-12)


def table(haltere, model, frames, rate, actions, folder, only=None):
    quality, action, embedding, log = embed(haltere, model, frames, rate, folder, "alone")
    doubted = len(re.findall("frames are not trusted", log))
    ok = np.array([q == "ok" for q in quality])
    print(f"{ok.sum()} of {len(ok)} decodes are `ok`, the first is frame {ok.argmax()}; disturbances told: {doubted}\n")
    print("| disturbance | frames | `ok` while it lasts | same action from 2 s after | embeddings off | as if they had not come | told as |")
    print("|---|---|---|---|---|---|---|")
    chance = np.random.default_rng(0).permutation(np.flatnonzero(ok))
    spread = distance(embedding[np.flatnonzero(ok)], embedding[chance]).mean()
    begins = max(int(ok.argmax()) + int(2 * rate), len(frames) // 2)
    later = 2 * int(round(rate))
    _, a, e, _ = embed(haltere, model, frames[later:], rate, folder, "later")
    after = np.flatnonzero(ok & (np.arange(len(ok)) >= begins + 2 * later))
    same = np.mean([a[i - later] == action[i] for i in after])
    off = distance(e[after - later], embedding[after]).mean()
    equal = f"{100 * same:.1f} % of {len(after)}" if actions else "–"
    print(f"| none, begun 2 s later | {later} | – | {equal} | {off:.4f} ({100 * off / spread:.1f} %) | – | – |", flush=True)
    for name, lit, make in disturbances(rate, begins, len(frames)):
        if only and only not in name:
            continue
        disturbed = frames.copy()
        disturbed[lit] = make(frames[lit], np.random.default_rng(1)) if "start" in name else make_from(frames, lit, make)
        q, a, e, log = embed(haltere, model, disturbed, rate, folder, "disturbed")
        whole = (quality, action, embedding)
        if "start" in name:
            late = embed(haltere, model, frames[len(lit) :], rate, folder, "late")[:3]
            empty = np.zeros((len(lit), embedding.shape[1]), embedding.dtype)
            whole = (["warmup"] * len(lit) + late[0], [""] * len(lit) + late[1], np.concatenate([empty, late[2]]))
        during = sum(q[frame] == "ok" for frame in lit)
        after = np.arange(max(lit) + 1 + int(round(2 * rate)), len(frames))
        after = after[[whole[0][i] == "ok" and q[i] == "ok" for i in after]]
        same = np.mean([a[i] == whole[1][i] for i in after]) if len(after) else float("nan")
        off = distance(e[after], whole[2][after]).mean() if len(after) else float("nan")
        bare = "–"
        if "start" not in name:
            without = embed(haltere, model, np.delete(frames, lit, 0), rate, folder, "without")[2]
            bits = [np.array_equal(e[i], without[i - sum(frame < i for frame in lit)]) for i in after]
            bare = f"{100 * np.mean(bits):.1f} %"
        reasons = re.findall(r"frames are not trusted from frame \d+ on \((\w+)\)", log)
        told = ", ".join(f"{reasons.count(r)} × {r}" for r in dict.fromkeys(reasons)) or "nothing"
        equal = f"{100 * same:.1f} % of {len(after)}" if actions else "–"
        print(f"| {name} | {len(lit)} | {during} | {equal} | {off:.4f} ({100 * off / spread:.1f} %) | {bare} | {told} |", flush=True)
    print()


def make_from(frames, lit, make):
    """Disturbed frames whose darkness and contrast are those of the frames before."""
    before = frames[max(0, lit[0] - 50) : lit[0]]
    both = make(np.concatenate([before, frames[lit]]), np.random.default_rng(1))
    return both[len(before) :]


def simulated(haltere, seed, animal, seconds, folder):
    out = folder / f"fly-{seed}-{animal}"
    command = [haltere, "simulate", out, "--animals", 1, "--first-animal", animal, "--trials", 1, "--seconds", seconds, "--seed", seed]
    subprocess.run([str(c) for c in command], check=True, capture_output=True, cwd=ROOT)
    planes = [np.fromfile(next(out.glob(f"*/*/{name}.mm")), "<f4").reshape(-1, 64, 64) for name in ("green", "red")]
    return np.stack(planes, 1).astype("<u2")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--haltere", default=os.environ.get("HALTERE", str(ROOT / "target/release/haltere")))
    parser.add_argument("--model", default=str(ROOT / "models/fly.toml"))
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seeds", default="7:9", help="SEED:ANIMAL, comma-separated")
    parser.add_argument("--recording", action="append", default=[], help="FILE:CxHxW:RATE[:HEADER_BYTES], uint16")
    options = parser.parse_args()
    haltere = pathlib.Path(options.haltere).resolve()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    print(f"{platform.machine()}, {platform.system()}; commit {commit}; {haltere.parent.name} build\n")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for pair in filter(None, options.seeds.split(",")):
            seed, animal = map(int, pair.split(":"))
            print(f"## Simulated fly, seed {seed}, animal {animal}, {options.seconds} s, model {pathlib.Path(options.model).stem}\n")
            table(haltere, options.model, simulated(haltere, seed, animal, options.seconds, folder), 16, True, folder)
        for recording in options.recording:
            path, shape, rate, *header = recording.split(":")
            channels, rows, columns = map(int, shape.split("x"))
            counts = np.fromfile(path, "<u2", offset=int(header[0]) if header else 0)
            frames = counts[: len(counts) // (channels * rows * columns) * channels * rows * columns]
            frames = frames.reshape(-1, channels, rows, columns)
            init = [haltere, "model", "init", "--name", "bench", "--out", folder, "--force", "--window", 16, "--input", f"{channels}x64x64"]
            subprocess.run([str(c) for c in init], check=True, capture_output=True, cwd=ROOT)
            print(f"## {pathlib.Path(path).name}, {len(frames)} frames of {shape}, taken as {rate} Hz, untrained model\n")
            table(haltere, folder / "bench.toml", frames, float(rate), False, folder)


if __name__ == "__main__":
    main()
