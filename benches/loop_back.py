#!/usr/bin/env python3
"""The loop from a frame to an acknowledged pulse, with recording, page and a model swap on: into benches/results.

    benches/loop_back.py [--outputs 300] [--model models/fly.toml] [--haltere target/release/haltere] [--out FILE.md]

A simulated fly is played at its own rate; a rule decides five times a second; `clients/python/controller.py` gives the pulse and acknowledges it over
a Unix socket; `haltere latency` measures, first quietly, then with everything on. The pulse is the moment at which the controller calls `light`:
what a DAQ, a laser or a projector adds is seen only by a photodiode that acknowledges in its place. Beside it the daemon makes the same pulses by
itself (`[ttl]`, into a file that notes every edge); the status says how late edges were. Needs pyzmq, numpy and the program.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

root = Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--outputs", type=int, default=300)
parser.add_argument("--model", default=str(root / "models/fly.toml"))
parser.add_argument("--haltere", default=str(root / "target/release/haltere"))
parser.add_argument("--out", help="default: standard output")
arguments = parser.parse_args()

RULE = ("when=light > 0.001", "repeat=true", "refractory_ms=200", "width_ms=5", "armed=true", "quality=degraded")
folder = tempfile.TemporaryDirectory()
frames, decodes, control, inlet = (f"ipc://{folder.name}/{name}" for name in ("frames", "decodes", "control", "inlet"))
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def sets():
    pairs = [f"source.endpoint={frames}", f"publish.endpoint={decodes}", f"control.endpoint={control}", f"inlet.endpoint={inlet}"]
    pairs += [f"decision.light.{words}" for words in RULE] + ["publish.deadline_ms=1000"]
    pairs += [f"ttl.device={folder.name}/line", "ttl.lines=light=rts"]
    return [word for pair in pairs for word in ("--set", pair)]


def haltere(*words, **how):
    return subprocess.Popen([arguments.haltere, *words], **(quiet | how))


def measure():
    words = ["latency", "--endpoint", decodes, "--count", str(arguments.outputs), "--json"]
    return json.loads(subprocess.run([arguments.haltere, *words], check=True, capture_output=True).stdout)


def edges():
    """How late the edges of the line were, from the daemon's next status."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe("status/")
    socket.connect(decodes)
    late = json.loads(socket.recv_multipart()[1])["ttl"]["late_us"]
    socket.close()
    return late


def swaps(going_on):
    while going_on.poll() is None:
        words = ["control", "--set", f"control.endpoint={control}", "model", arguments.model]
        subprocess.run([arguments.haltere, *words], **quiet, check=False)
        time.sleep(10)


def run(everything):
    Path(folder.name, "line").touch()
    record = ["--record", f"{folder.name}/sessions"] if everything else []
    started = [
        haltere("run", "--model", arguments.model, *record, *sets()),
        subprocess.Popen([sys.executable, root / "clients/python/controller.py", "--endpoint", decodes, "--source", "play", "--inlet", inlet], **quiet),
        haltere("play", "--endpoint", frames, "--loop", "0", "sim:seed=1,animal=9,trial=2,seconds=60"),
    ]
    if everything:
        started.append(haltere("monitor", "--endpoint", decodes, "--bind", "127.0.0.1:57131"))
    time.sleep(5)
    try:
        if not everything:
            return measure(), edges()
        words = ["latency", "--endpoint", decodes, "--count", str(arguments.outputs), "--json"]
        latency = haltere(*words, stdout=subprocess.PIPE)
        swaps(latency)
        return json.loads(latency.communicate()[0]), edges()
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def rows(name, measured, late):
    keys = ("p50_us", "p99_us", "p999_us", "max_us", "jitter_rms_us", "jitter_p999_us")
    for stage in measured["stages"]:
        numbers = " | ".join(f"{stage[key]:.0f}" for key in keys)
        yield f"| {name} | {stage['stage']} | {stage['count']} | {numbers} |"
    numbers = " | ".join(f"{late[key]:.0f}" for key in ("p50", "p99", "p999", "max"))
    yield f"| {name} | line: how late an edge is | {late['count']} | {numbers} | | {late['p999'] - late['p50']:.0f} |"


lines = [
    "# From a frame to an acknowledged pulse", "",
    f"`benches/loop_back.py --outputs {arguments.outputs}`: {platform.machine()}, {os.cpu_count()} cores, load average before "
    f"{os.getloadavg()[0]:.1f}; `{Path(arguments.model).stem}`; controller in Python {platform.python_version()} over Unix sockets. "
    "\"everything\" is a recording, the monitor, and a model swap every ten seconds.", "",
    "| µs | stage | round trips | p50 | p99 | p99.9 | max | rms | p99.9 − p50 |", "|---|---|---|---|---|---|---|---|---|",
]
for name, everything in (("quiet", False), ("everything", True)):
    lines += rows(name, *run(everything))
text = "\n".join(lines) + "\n"
if arguments.out:
    Path(arguments.out).write_text(text)
else:
    print(text, end="")
