"""Does `haltere calibrate` help an animal that no model was trained on?

    python benches/calibration.py MODEL.toml [--seed 9003] [--animals 4] [--seconds 120] [--out FILE.md]

Simulates animals of a fresh seed, two trials each. From the first trial calibrate gets the first `--seconds` after the
model's warm-up, once without labels and once with; the second trial is decoded by the model as it was and by both calibrated
ones, through the daemon's own corridor (`embed`), and scored on the frames of quality ok. Balanced accuracy is the mean recall
over the actions that occur. Needs the standard library only.
"""
import argparse
import collections
import csv
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HALTERE = os.environ.get("HALTERE", str(ROOT / "target/release/haltere"))
FRAME_RATE_HZ = 16
VARIANTS = ("as it was", "without labels", "with labels")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=9003)
    parser.add_argument("--animals", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=120, help="of the new animal, after the warm-up")
    parser.add_argument("--out", type=Path, help="append the table to this file")
    return parser.parse_args()


def haltere(*arguments):
    environment = os.environ | {"ORT_DYLIB_PATH": os.environ.get("ORT_DYLIB_PATH", str(ROOT / ".runtime/libonnxruntime.so"))}
    done = subprocess.run([HALTERE, *map(str, arguments)], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"haltere {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def decoded(model, movie, folder):
    """Frame -> action, of the frames of quality ok."""
    table = folder / "decoded.csv"
    haltere("embed", movie, "--model", model, "--rate", FRAME_RATE_HZ, "--out", folder / "decoded.npy", "--csv", table,
            "--progress", "never")
    return {int(row["frame"]): row["action"] for row in rows(table) if row["quality"] == "ok"}


def scores(decodes, truth):
    hits = collections.defaultdict(list)
    for frame, action in decodes.items():
        if frame in truth:
            hits[truth[frame]].append(action == truth[frame])
    count = sum(map(len, hits.values()))
    recalls = [sum(hit) / len(hit) for hit in hits.values()]
    return {"accuracy": 100 * sum(map(sum, hits.values())) / count, "balanced": 100 * statistics.mean(recalls), "frames": count}


def calibrate(model, trial, first, frames, folder):
    """The model calibrated without and with labels; what calibrate said of it."""
    labels = folder / "labels.csv"
    with open(labels, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "label"])
        writer.writerows([row["frame"], row["label"]] for row in rows(trial / "truth.csv")
                         if first <= int(row["frame"]) < first + frames and row["label"])
    said = {}
    for name, more in (("without", []), ("with", ["--labels", labels])):
        said[name] = haltere("calibrate", model, trial / "raw.tif", "--rate", FRAME_RATE_HZ, "--frames", first + frames,
                             "--out", folder / name, "--force", "--json", "--progress", "never", *more)
    return folder / "without.toml", folder / "with.toml", said


def main():
    arguments = parse_arguments()
    model = arguments.model.resolve()
    found = {name: [] for name in VARIANTS}
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        flies = folder / "flies"
        haltere("simulate", flies, "--animals", arguments.animals, "--trials", 2, "--seed", arguments.seed, "--format", "tiff")
        for fly in sorted(flies.glob("fly_*")):
            first_ok = min(decoded(model, fly / "001/raw.tif", folder))
            without, with_labels, said = calibrate(model, fly / "001", first_ok, arguments.seconds * FRAME_RATE_HZ, folder)
            truth = {int(row["frame"]): row["label"] for row in rows(fly / "002/truth.csv") if row["label"]}
            row = []
            for name, one in zip(VARIANTS, (model, without, with_labels)):
                score = scores(decoded(one, fly / "002/raw.tif", folder), truth)
                found[name].append(score)
                row.append(f"{score['balanced']:.1f} / {score['accuracy']:.1f}")
            lines.append(f"| {fly.name} | {' | '.join(row)} | {score['frames']} |")
            print(lines[-1], flush=True)
            for name, text in said.items():
                print(f"    {name} labels: {json.dumps(json.loads(text))[:400]}", flush=True)
    means = [f"{statistics.mean(s['balanced'] for s in found[name]):.1f} / {statistics.mean(s['accuracy'] for s in found[name]):.1f}"
             for name in VARIANTS]
    table = "\n".join([f"{model.name}, seed {arguments.seed}, {arguments.seconds} s of each animal; balanced accuracy / accuracy in %", "",
                       f"| animal | {' | '.join(VARIANTS)} | frames scored |", "|---|---|---|---|---|", *lines,
                       f"| mean | {' | '.join(means)} | |", ""])
    print(table)
    if arguments.out:
        with open(arguments.out, "a") as file:
            file.write(table + "\n")


main()
