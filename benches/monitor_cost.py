#!/usr/bin/env python3
"""What a monitor with a browser attached costs the daemon: latency of decodes with and without, in turns, in one run.

    benches/monitor_cost.py MOVIE.tif [--seconds 30] [--rounds 6] [--hz 30] [--model models/untrained.toml] [--browser chromium]

One daemon and one microscope run throughout; every other phase has a monitor and a browser at its page. The first two seconds of
each phase are left out. Needs pyzmq, numpy, Chromium, target/release/haltere.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import zmq

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("movie")
parser.add_argument("--seconds", type=float, default=30)
parser.add_argument("--rounds", type=int, default=6)
parser.add_argument("--hz", type=float, default=30)
parser.add_argument("--model", default="models/untrained.toml")
parser.add_argument("--browser", default="chromium")
parser.add_argument("--haltere", default="target/release/haltere")
arguments = parser.parse_args()

folder = tempfile.TemporaryDirectory()
frames, decodes = (f"ipc://{folder.name}/{name}" for name in ("frames", "decodes"))
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
jobs = []


def start(*command):
    jobs.append(subprocess.Popen(command, **quiet))
    return jobs[-1]


def stop(job):
    job.terminate()
    job.wait()
    jobs.remove(job)


def listen(socket, seconds):
    """(receipt → published, time stamp → published) of every decode of `seconds`, µs."""
    rows, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        if socket.poll(100):
            header = json.loads(socket.recv_multipart()[1])
            if "latency_us" in header:
                rows.append((header["latency_us"]["total"], (header["t_pub_ns"] - header["t_device_ns"]) / 1e3))
    return rows


try:
    start(arguments.haltere, "run", "--model", arguments.model, "--set", f"source.endpoint={frames}", "--set",
          f"publish.endpoint={decodes}", "--set", "control.endpoint=off")
    start(arguments.haltere, "play", arguments.movie, "--rate", str(arguments.hz), "--loop", "0", "--endpoint", frames)
    socket = zmq.Context().socket(zmq.SUB)
    socket.subscribe("decode/")
    socket.connect(decodes)
    listen(socket, 20)
    rows = {False: [], True: []}
    for phase in range(2 * arguments.rounds):
        # ABBA, so that a drift of the machine falls on both.
        watched = phase % 4 in (1, 2)
        guests = []
        if watched:
            guests.append(start(arguments.haltere, "monitor", "--endpoint", decodes, "--bind", "127.0.0.1:57130"))
            time.sleep(0.5)
            guests.append(start(arguments.browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1920,1080",
                                "--remote-debugging-port=0", f"--user-data-dir={folder.name}/browser", "http://127.0.0.1:57130"))
        listen(socket, 4)
        rows[watched] += listen(socket, arguments.seconds)
        for guest in reversed(guests):
            stop(guest)
        listen(socket, 2)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.hz:g} Hz, {arguments.rounds} phases of {arguments.seconds:g} s each")
    print(f"{'µs':<38}{'decodes':>9}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
    for column, what in enumerate(("receipt → published", "time stamp → published")):
        for watched, name in ((False, "alone"), (True, "monitor, browser")):
            values = np.array(rows[watched])[:, column]
            cells = "".join(f"{v:9.0f}" for v in [*np.percentile(values, [50, 99, 99.9]), values.max()])
            print(f"{what + ', ' + name:<38}{len(values):9}{cells}")
finally:
    for job in list(jobs):
        stop(job)
