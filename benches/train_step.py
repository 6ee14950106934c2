#!/usr/bin/env python3
"""CPU-seconds per training step: haltere against PyTorch, the same network, batch, loss and optimiser.

Requirements: torch==2.15.0 (PyPI; the x86-64 Linux wheel also wants the nvidia packages it names), numpy; a Rust toolchain.

    python benches/train_step.py                # the table
    python benches/train_step.py --json FILE    # and its numbers, with machine and versions

    python benches/train_step.py --device cuda  # wall seconds on an NVIDIA GPU; frames are copied to it in every step, by all alike

Every contender runs in its own process, in turns, so that a busy machine slows all alike. Compared is CPU time (user and
system, all threads), which other programs disturb least; PyTorch counts in its best form.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEGMENTS, SEGMENT_FRAMES, WINDOW, STRIDE, SIDE = 32, 56, 32, 8, 64
FEATURES, EMBEDDING, TEMPERATURE, RATE = 64, 64, 0.1, 1e-3
BOUND = 1.5


def torch_worker(options):
    """Steps of PyTorch; prints what benches/train_step.rs prints."""
    import torch
    from torch import nn

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.form == "tf32"
    layers, before = [], 1
    for index, width in enumerate(options.widths):
        kernel, stride, padding = (4, 4, 0) if index == 0 else (3, 2, 1)
        layers += [nn.Conv2d(before, width, kernel, stride, padding, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        before = width
    frame = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 4 * 4, FEATURES))
    head = nn.Sequential(
        nn.Conv1d(FEATURES, FEATURES, 4, 4), nn.ReLU(inplace=True),
        nn.Conv1d(FEATURES, FEATURES, 4, 4), nn.ReLU(inplace=True),
        nn.Conv1d(FEATURES, EMBEDDING, 2, 2), nn.Flatten(),
    )
    frames = torch.randn(SEGMENTS * SEGMENT_FRAMES, 1, SIDE, SIDE)
    if options.form == "channels_last":
        frame = frame.to(memory_format=torch.channels_last)
        frames = frames.to(memory_format=torch.channels_last)
    frame, head = frame.to(device), head.to(device)
    starts = range(0, SEGMENT_FRAMES - WINDOW + 1, STRIDE)
    target = nn.functional.normalize(torch.randn(SEGMENTS * len(starts), EMBEDDING)).to(device)
    parameters = [*frame.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=1e-4, fused=True)
    same = torch.arange(len(target), device=device)
    losses, cpu_s, wall_s = [], [], []
    for _ in range(options.warm_up + options.steps):
        cpu, wall = time.process_time(), time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        rows = frame(frames.to(device)).reshape(SEGMENTS, SEGMENT_FRAMES, FEATURES)
        windows = torch.cat([rows[:, start : start + WINDOW] for start in starts])
        embeddings = nn.functional.normalize(head(windows.transpose(1, 2)))
        logits = embeddings @ target.T / TEMPERATURE
        loss = (nn.functional.cross_entropy(logits, same) + nn.functional.cross_entropy(logits.T, same)) / 2
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
    assert losses[-1] < losses[0], f"the loss must fall: {losses}"
    median = lambda values: statistics.median(values[options.warm_up :])
    print(json.dumps({"cpu_s": median(cpu_s), "wall_s": median(wall_s), "version": torch.__version__}))


def rust_binary(device):
    """Builds the Rust counterpart and returns its path."""
    command = ["cargo", "bench", "--bench", "train_step", "--no-run", "--message-format=json"]
    if device == "cuda":
        command += ["--features", "train-cuda", "--target-dir", "target/train-cuda"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = [json.loads(line) for line in lines if line.startswith("{")]
    return next(m["executable"] for m in reversed(built) if m.get("executable") and m["target"]["name"] == "train_step")


def contenders(binary, widths, steps, device):
    """Name → (command, environment)."""
    joined = ",".join(map(str, widths))
    common = ["--widths", joined, "--steps", str(steps)]
    rust = [binary, "--bench", *common]
    python = [sys.executable, str(Path(__file__).resolve()), "--worker", *common]
    if device == "cuda":
        rust, python = (command + ["--device", "cuda", "--warm-up", "20"] for command in (rust, python))
        return {
            "haltere (burn, CUDA)": (rust, {}),
            "PyTorch eager": (python + ["--form", "f32"], {}),
            "PyTorch eager, TF32": (python + ["--form", "tf32"], {}),
        }
    # GNU OpenMP's threads wait for each other by spinning, which is CPU time too: PyTorch may also sleep, or use one thread.
    sleep = {"OMP_WAIT_POLICY": "passive"}
    return {
        "haltere, 2 threads": (rust + ["--threads", "2"], {}),
        "haltere, 1 thread": (rust + ["--threads", "1"], {}),
        "burn alone, 2 threads": (rust + ["--burn", "--threads", "2"], {}),
        "PyTorch NCHW, 2 threads": (python + ["--form", "nchw", "--threads", "2"], {}),
        "PyTorch channels last, 2 threads": (python + ["--form", "channels_last", "--threads", "2"], {}),
        "PyTorch channels last, 2 threads, passive": (python + ["--form", "channels_last", "--threads", "2"], sleep),
        "PyTorch channels last, 1 thread": (python + ["--form", "channels_last", "--threads", "1"], {}),
    }


def measure(binary, widths, rounds, steps, device):
    """Medians over rounds of the medians over steps."""
    runs = {}
    for turn in range(rounds):
        for name, (command, extra) in contenders(binary, widths, steps, device).items():
            print(f"round {turn + 1} of {rounds}: {name} …", file=sys.stderr)
            done = subprocess.run(command, env={**os.environ, **extra}, check=True, stdout=subprocess.PIPE, text=True)
            runs.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    median = lambda results, key: statistics.median(result[key] for result in results)
    return {name: {key: median(results, key) for key in ("cpu_s", "wall_s")} for name, results in runs.items()}


def table(widths, results, device):
    """Markdown, and the ratio that the bound is about: CPU seconds on the CPU, wall seconds on a GPU."""
    key = "wall_s" if device == "cuda" else "cpu_s"
    of_same_precision = [r[key] for name, r in results.items() if name.startswith("PyTorch") and "TF32" not in name]
    best = min(of_same_precision)
    lines = [f"widths {widths}, {SEGMENTS}×{SEGMENT_FRAMES} frames {SIDE}×{SIDE}, {SEGMENTS * 4} windows of {WINDOW}", ""]
    lines += [f"| | CPU s per step | wall s per step | {key}, PyTorch's best = 1 |", "|---|---|---|---|"]
    for name, r in results.items():
        lines.append(f"| {name} | {r['cpu_s']:.4f} | {r['wall_s']:.4f} | {r[key] / best:.2f} |")
    return "\n".join(lines), next(iter(results.values()))[key] / best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=lambda text: [int(w) for w in text.split(",")], action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--form", choices=["nchw", "channels_last", "f32", "tf32"], default="channels_last")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        options.widths = options.widths[0]
        torch_worker(options)
        return
    import torch

    report = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    report["load"] = os.getloadavg()
    binary, good = rust_binary(options.device), True
    # On a GPU: at least as many steps per second.
    bound = 1.0 if options.device == "cuda" else BOUND
    for widths in options.widths or [[24, 48, 64], [32, 64, 96]]:
        results = measure(binary, widths, options.rounds, options.steps, options.device)
        text, ratio = table(widths, results, options.device)
        good &= ratio <= bound
        print(f"{text}\n\nhaltere / PyTorch = {ratio:.2f} in {'wall' if options.device == 'cuda' else 'CPU-'} seconds per step, bound {bound}\n")
        report[",".join(map(str, widths))] = {"results": results, "ratio": ratio}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
