#!/usr/bin/env python3
"""What a monitor with a browser, or recording to disk, costs the daemon: latency of decodes with and without, in turns, in one run.

    benches/cost_beside.py monitor|viewer|load|recording MOVIE.tif [--seconds 30] [--rounds 6] [--hz 30] [--model models/untrained.toml]

One daemon and one microscope run throughout; every other phase has a guest: a monitor and a browser at its page; a monitor and a
reader of what a browser on another machine would get (viewer); no monitor at all but a process that computes for 16 ms five times a
second, as a measure of what any neighbour costs (load); or a recording. The first four
seconds of each phase are left out. The table compares all decodes of the two kinds, and the median of the p99 of the phases, which
one stall of the machine does not move; how much of a difference is chance is told by drawing the phases anew. Needs pyzmq, numpy,
target/release/haltere, for the monitor Chromium, and for recording room in --folder: 512 KiB a frame of 512×512 u16, deleted after
each phase.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zmq

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("beside", choices=("monitor", "viewer", "load", "recording"))
parser.add_argument("movie")
parser.add_argument("--seconds", type=float, default=30)
parser.add_argument("--rounds", type=int, default=6)
parser.add_argument("--hz", type=float, default=30)
parser.add_argument("--model", default="models/untrained.toml")
parser.add_argument("--browser", default="chromium")
parser.add_argument("--folder", help="where sessions are recorded; the system's temporary folder if not given")
parser.add_argument("--haltere", default="target/release/haltere")
parser.add_argument("--priority", type=int, help="`realtime.priority` of the daemon, and the microscope's, as on a rig")
arguments = parser.parse_args()

# Takes the page's WebSocket and reads on.
VIEWER = """
import socket
page = socket.create_connection(("127.0.0.1", 57130))
page.sendall(b"GET /live HTTP/1.1\\r\\nHost: 127.0.0.1:57130\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n")
while page.recv(1 << 16):
    pass
"""
LOAD = """
import time
while True:
    until = time.perf_counter() + 0.016
    while time.perf_counter() < until:
        pass
    time.sleep(0.184)
"""
folder = tempfile.TemporaryDirectory(dir=arguments.folder)
frames, decodes, control = (f"ipc://{folder.name}/{name}" for name in ("frames", "decodes", "control"))
MONITOR = (arguments.haltere, "monitor", "--endpoint", decodes, "--bind", "127.0.0.1:57130")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
jobs = []
cores = []


def start(*command):
    jobs.append(subprocess.Popen(command, start_new_session=True, **quiet))
    return jobs[-1]


def cpu_seconds(sessions):
    """CPU time of all processes of these sessions that still live."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            ticks += int(fields[3]) in sessions and int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def stop(job):
    job.terminate()
    job.wait()
    jobs.remove(job)


@contextlib.contextmanager
def guests(*commands):
    """Processes, one half a second after the other."""
    started = []
    for command in commands:
        started.append(start(*command))
        time.sleep(0.5)
    sessions = {job.pid for job in started}
    began, before = time.monotonic(), cpu_seconds(sessions)
    yield
    cores.append((cpu_seconds(sessions) - before) / (time.monotonic() - began))
    for job in reversed(started):
        stop(job)


def monitor():
    return guests(MONITOR, (arguments.browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1920,1080",
                            "--remote-debugging-port=0", f"--user-data-dir={folder.name}/browser", "http://127.0.0.1:57130"))


def viewer():
    return guests(MONITOR, (sys.executable, "-c", VIEWER))


def load():
    return guests((sys.executable, "-c", LOAD))


@contextlib.contextmanager
def recording():
    ask("record start")
    yield
    said = ask("record stop")
    for session in Path(folder.name).glob("*.mcap"):
        print(f"  recorded {session.stat().st_size / 2**20:.0f} MiB; {said}", flush=True)
        session.unlink()


def ask(words):
    done = subprocess.run([arguments.haltere, "control", "--set", f"control.endpoint={control}", *words.split()],
                          capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split())[:160]


def listen(socket, seconds):
    """(receipt → published, time stamp → published) of every decode of `seconds`, µs."""
    rows, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        if socket.poll(100):
            header = json.loads(socket.recv_multipart()[1])
            if "latency_us" in header:
                rows.append((header["latency_us"]["total"], (header["t_pub_ns"] - header["t_device_ns"]) / 1e3))
    return np.array(rows)


def table(phases):
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.hz:g} Hz, {arguments.rounds} phases of {arguments.seconds:g} s each"
          f"{f', realtime.priority = {arguments.priority}' if arguments.priority else ''}")
    print(f"{'µs':<38}{'decodes':>9}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}{'p99 of the median phase':>26}")
    for column, what in enumerate(("receipt → published", "time stamp → published")):
        for beside, name in ((False, "alone"), (True, arguments.beside)):
            values = np.concatenate(phases[beside])[:, column]
            cells = "".join(f"{v:9.0f}" for v in [*np.percentile(values, [50, 99, 99.9]), values.max()])
            median = np.median([np.percentile(phase[:, column], 99) for phase in phases[beside]])
            print(f"{what + ', ' + name:<38}{len(values):9}{cells}{median:26.0f}")
        change, low, high = p99_change(phases, column)
        print(f"    p99 changes by {change:+.1f} % (95 % of resampled phases: {low:+.1f} to {high:+.1f} %)")
    if cores:
        print(f"the guests take {100 * np.mean(cores):.0f} % of a core")


def p99_change(phases, column):
    """Change of the p99 of all decodes in percent, and its 2.5th and 97.5th percentile when phases are drawn with replacement."""
    chance = np.random.default_rng(0)
    p99 = lambda some: np.percentile(np.concatenate(some)[:, column], 99)
    drawn = lambda some: [some[i] for i in chance.integers(len(some), size=len(some))]
    change = lambda alone, beside: 100 * (p99(beside) / p99(alone) - 1)
    spread = [change(drawn(phases[False]), drawn(phases[True])) for _ in range(2000)]
    return change(phases[False], phases[True]), *np.percentile(spread, [2.5, 97.5])


GUESTS = {"monitor": monitor, "viewer": viewer, "load": load, "recording": recording}
try:
    ahead = ["chrt", "--fifo", str(arguments.priority)] if arguments.priority else []
    first = ["--set", f"realtime.priority={arguments.priority}"] if arguments.priority else []
    start(arguments.haltere, "run", *first, "--model", arguments.model, "--set", f"source.endpoint={frames}", "--set",
          f"publish.endpoint={decodes}", "--set", f"control.endpoint={control}", "--set", f"record.folder={folder.name}",
          "--set", "record.at_start=false")
    start(*ahead, arguments.haltere, "play", arguments.movie, "--rate", str(arguments.hz), "--loop", "0", "--endpoint", frames)
    socket = zmq.Context().socket(zmq.SUB)
    socket.subscribe("decode/")
    socket.connect(decodes)
    if not len(listen(socket, 20)):
        raise SystemExit(f"no decode came in 20 s: does `{arguments.haltere} run --model {arguments.model}` take {arguments.movie}?")
    phases = {False: [], True: []}
    for phase in range(2 * arguments.rounds):
        # ABBA, so that a drift of the machine falls on both.
        beside = phase % 4 in (1, 2)
        guest = GUESTS[arguments.beside] if beside else contextlib.nullcontext
        with guest():
            listen(socket, 4)
            phases[beside].append(listen(socket, arguments.seconds))
        listen(socket, 2)
    table(phases)
finally:
    for job in list(jobs):
        stop(job)
