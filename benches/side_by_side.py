"""The daemon and a careful Python loop, measured by the same client, in turn, in one run.

    python benches/side_by_side.py PEERS --model MODEL.toml [--model OTHER.toml] [--rounds 3] [--n 1000] [--out FILE.md]

PEERS is a folder with `client.py` (a microscope and a listener in one: publishes 512 x 512 u16 frames, receives decodes,
reports latency from the intended send to the receipt) and `python_loop.py` (receive, register, dF/F, resize, ONNX
Runtime, publish in one Python process). Rounds alternate between the programs, so that a busy minute of the machine hits
both; the table takes the median over the rounds. Needs the packages of PEERS/requirements.txt in the Python that runs it.
"""
import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HALTERE = ROOT / "target/release/haltere"
WARM_UP = 400                                      # frames until template, baseline and statistics are there
COLUMNS = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "fps", "missing", "sender_lag_p99_us")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", type=Path)
    parser.add_argument("--model", action="append", required=True, type=Path, help="manifest; may be given many times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n", type=int, default=1000, help="frames per measurement")
    parser.add_argument("--set", action="append", default=[], help="passed on to haltere run")
    parser.add_argument("--out", type=Path, help="append the table to this file")
    return parser.parse_args()


def daemon(model, overrides, pull):
    pattern = ["--set", "source.pattern=pull", "--set", "lane.overload=wait"] if pull else []
    environment = os.environ | {"ORT_DYLIB_PATH": str(ROOT / ".runtime/libonnxruntime.so")}
    command = [HALTERE, "run", "--model", model.resolve(), "--set", "control.endpoint=off", *pattern, *overrides]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def python_loop(peers, pull):
    return subprocess.Popen([sys.executable, "python_loop.py", *(["--pull"] if pull else [])], cwd=peers,
                            stderr=subprocess.DEVNULL)


def client(peers, *arguments):
    done = subprocess.run([sys.executable, "client.py", *map(str, arguments)], cwd=peers, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def measure(start, args, warm):
    """One round of one program -> {load: row}."""
    rows = {}
    for mode, extra in (("closed", []), ("paced", []), ("flood", ["--push"])):
        program = start(mode == "flood")
        time.sleep(1.5)
        try:
            rows[mode] = client(args.peers, "--mode", mode, "--n", args.n, "--warm", warm, *extra)
        finally:
            program.send_signal(signal.SIGINT)
            program.wait()
    return rows


def machine():
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}; commit {commit.stdout.strip()}"


def table(results):
    yield "| load | program | " + " | ".join(COLUMNS) + " | Python's p50 / p99 / fps relative to it |"
    yield "|---" * (3 + len(COLUMNS)) + "|"
    for mode in ("closed", "paced", "flood"):
        middle = {name: {column: statistics.median(row[mode][column] for row in rows) for column in COLUMNS}
                  for name, rows in results.items()}
        python = middle["python"]
        for name, row in middle.items():
            ratio = " / ".join(f"{max(python[c], row[c]) / min(python[c], row[c]):.2f}×" for c in ("p50_us", "p99_us", "fps"))
            yield f"| {mode} | {name} | " + " | ".join(f"{row[c]:g}" for c in COLUMNS) + f" | {ratio} |"


def main():
    args = parse_arguments()
    overrides = [word for text in args.set for word in ("--set", text)]
    programs = {"python": (lambda pull: python_loop(args.peers, pull), 60)}
    for model in args.model:
        programs[f"haltere, {model.stem}"] = (lambda pull, model=model: daemon(model, overrides, pull), WARM_UP)
    results = {name: [] for name in programs}
    for number in range(args.rounds):
        for name, (start, warm) in programs.items():
            results[name].append(measure(start, args, warm))
            print(f"round {number + 1}: {name}", json.dumps({m: r["p50_us"] for m, r in results[name][-1].items()}), file=sys.stderr)
    lines = [f"{machine()}; load {os.getloadavg()[0]:.2f}; {args.n} frames, median of {args.rounds} rounds"]
    lines += [f"`haltere run` with {' '.join(args.set)}"] if args.set else []
    lines += ["", *table(results), ""]
    print("\n".join(lines))
    if args.out:
        with open(args.out, "a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
