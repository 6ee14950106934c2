#!/usr/bin/env python3
"""A long run: is a frame lost, is one late, does memory grow, does the recording hold everything?

    benches/soak.py [--seconds 3600] [--hz 30] [--side 256] [--model models/untrained.toml] [--out FILE.md]

One microscope (`haltere play`), one daemon that records its session, one monitor, one subscriber. Every minute: decodes, holes in
frame numbers and in `seq`, latency, resident memory and open files of the daemon. At the end `haltere report` reads the session.
The movie is noise around a fixed scene, `--side` pixels square. Needs pyzmq, numpy, target/release/haltere.
"""
import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zmq

ROOT = Path(__file__).resolve().parent.parent
HALTERE = os.environ.get("HALTERE", str(ROOT / "target/release/haltere"))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--hz", type=float, default=30)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--model", default=str(ROOT / "models/untrained.toml"))
    parser.add_argument("--no-recording", action="store_true")
    parser.add_argument("--priority", type=int, help="`realtime.priority` of the daemon, and the microscope's, as on a rig")
    parser.add_argument("--out", type=Path, help="append the table to this file")
    return parser.parse_args()


def write_movie(path, side, frames=90):
    """Raw little-endian u16: blobs of light, photon noise."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side]
    scene = sum(random.uniform(100, 900) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (side / 40) ** 2))
                for cx, cy in random.uniform(0, side, (60, 2)))
    random.poisson(scene + 20, (frames, side, side)).astype("<u2").tofile(path)


def memory_kib(pid):
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0])


class Tally:
    """What the decodes say of themselves."""

    def __init__(self):
        self.decodes = self.lost_frames = self.lost_messages = 0
        self.frame = self.seq = None
        self.latency_us = []
        self.minute_us = []

    def take(self, header):
        if self.seq is not None and header["seq"] != self.seq + 1:
            self.lost_messages += header["seq"] - self.seq - 1
        self.seq = header["seq"]
        if "latency_us" not in header:      # neutral: nothing was decoded
            return
        frame = header["frame"]
        if self.frame is not None:
            self.lost_frames += frame - self.frame - 1
        self.frame = frame
        self.decodes += 1
        self.latency_us.append(header["latency_us"]["total"])
        self.minute_us.append(header["latency_us"]["total"])


def quantiles(values):
    return " | ".join(f"{value:.0f}" for value in (*np.percentile(values, (50, 99, 99.9)), max(values)))


def machine():
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}; commit {commit.stdout.strip()}"


def listen(socket, tally, pid, seconds, lines):
    began = time.monotonic()
    minutes = 0
    while (now := time.monotonic()) < began + seconds:
        if socket.poll(200):
            parts = socket.recv_multipart()
            if parts[0].startswith(b"decode/"):
                tally.take(json.loads(parts[1]))
        if now >= began + 60 * (minutes + 1):
            minutes += 1
            files = len(os.listdir(f"/proc/{pid}/fd"))
            row = (f"| {minutes} | {tally.decodes} | {tally.lost_frames} | {tally.lost_messages} | "
                   f"{quantiles(tally.minute_us)} | {memory_kib(pid) / 1024:.1f} | {files} | {os.getloadavg()[0]:.1f} |")
            tally.minute_us = []
            print(row, flush=True)
            if minutes in (1, 2, 5) or minutes % 10 == 0:
                lines.append(row)


def main():
    args = parse_arguments()
    lines = [f"{machine()}; {args.side}×{args.side} u16 at {args.hz:g} Hz for {args.seconds:g} s, "
             f"{'not ' if args.no_recording else ''}recorded, a monitor attached"
             f"{f', realtime.priority = {args.priority}' if args.priority else ''}", "",
             "| minute | decodes | frames lost | messages lost | p50 µs | p99 | p99.9 | max | memory MiB | open files | load |",
             "|" + "---|" * 11]
    with tempfile.TemporaryDirectory(dir=os.environ.get("SOAK_DIR")) as folder:
        movie = Path(folder) / "movie.raw"
        write_movie(movie, args.side)
        frames, decodes = (f"ipc://{folder}/{name}" for name in ("frames", "decodes"))
        record = [] if args.no_recording else ["--record", f"{folder}/sessions"]
        quiet = {"stdout": subprocess.DEVNULL}
        log = open(Path(folder) / "daemon.log", "w")
        Path(folder, "sessions").mkdir()
        ahead = ["chrt", "--fifo", str(args.priority)] if args.priority else []
        first = ["--set", f"realtime.priority={args.priority}"] if args.priority else []
        jobs = [subprocess.Popen([HALTERE, "run", *first, "--model", args.model, "--set", f"source.endpoint={frames}", "--set",
                                  f"publish.endpoint={decodes}", "--set", "control.endpoint=off", *record], stderr=log, **quiet)]
        jobs.append(subprocess.Popen([HALTERE, "monitor", "--endpoint", decodes, "--bind", "127.0.0.1:57131"],
                                     stderr=subprocess.DEVNULL, **quiet))
        socket = zmq.Context().socket(zmq.SUB)
        socket.set(zmq.RCVHWM, 10000)
        socket.subscribe("")
        socket.connect(decodes)
        time.sleep(2)
        jobs.append(subprocess.Popen([*ahead, HALTERE, "play", str(movie), "--raw", f"uint16:{args.side}x{args.side}", "--rate", str(args.hz),
                                      "--loop", "0", "--endpoint", frames], stderr=subprocess.DEVNULL, **quiet))
        tally = Tally()
        try:
            listen(socket, tally, jobs[0].pid, args.seconds, lines)
        finally:
            for job in reversed(jobs):
                job.send_signal(signal.SIGINT)
                job.wait()
        lines += ["", f"All: {tally.decodes} decodes, {tally.lost_frames} frames lost, {tally.lost_messages} messages lost; "
                      f"receipt → publish µs p50 | p99 | p99.9 | max: {quantiles(tally.latency_us)}"]
        for session in sorted(Path(folder, "sessions").glob("*.mcap")):
            report = subprocess.run([HALTERE, "report", str(session)], capture_output=True, text=True)
            lines += ["", f"Session of {session.stat().st_size / 2**20:.0f} MiB; `haltere report` says (exit code {report.returncode}):",
                      "```", (report.stdout or report.stderr).strip()[:1500], "```"]
        warnings = [line.strip() for line in open(Path(folder) / "daemon.log") if "WARN" in line or "ERROR" in line]
        lines += ["", f"Warnings of the daemon: {len(warnings)}", *[f"    {line[:200]}" for line in warnings[:10]], ""]
    print("\n".join(lines))
    if args.out:
        with open(args.out, "a") as file:
            file.write("\n".join(lines) + "\n")
    sys.exit(1 if tally.lost_frames else 0)


main()
