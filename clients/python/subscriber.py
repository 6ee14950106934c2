"""A stimulus controller in pyzmq: acts on haltere's decodes and falls back to the neutral action when they cannot be trusted.

    python subscriber.py --neutral resting [--source rig1] [--decodes 100]
    python subscriber.py --curve anna.key_secret --server rig2.key    # keys from `haltere keys` or zmq.auth.create_certificates

The rule, in every language: act only on quality "ok" (or "degraded", if you accept it); for anything else, and if no heartbeat
arrives for `deadline_ms`, take the neutral action. A jump in `seq` means that you lost decodes.
"""
import argparse
import json
import time

import numpy as np
import zmq
import zmq.auth


def act(action, why):
    """Replace this with your stimulus."""
    print(f"{action:<12} {why}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5711")
    parser.add_argument("--source", default="rig1")
    parser.add_argument("--neutral", default="neutral", help="the action to take when no decode can be trusted")
    parser.add_argument("--decodes", type=int, help="stop after this many decodes (default: never)")
    parser.add_argument("--curve", metavar="FILE", help="connect with this secret key (NAME.key_secret) and encrypt")
    parser.add_argument("--server", metavar="FILE", help="the daemon's public key (its NAME.key), with --curve")
    options = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.SUB)
    if options.curve:
        socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(options.curve)
        socket.curve_serverkey, _ = zmq.auth.load_certificate(options.server)
    for kind in ("decode", "heartbeat"):
        socket.subscribe(f"{kind}/{options.source}")     # a prefix: rig1 also lets rig10 through, see below
    socket.connect(options.endpoint)
    deadline_s, last_sign, trusted, seq, count = 1.0, time.monotonic(), False, None, 0
    while options.decodes is None or count < options.decodes:
        if not socket.poll(10):
            if trusted and time.monotonic() - last_sign > deadline_s:
                trusted = False
                act(options.neutral, "daemon silent")
            continue
        topic, header, *embedding = socket.recv_multipart()
        kind, _, source = topic.decode().partition("/")
        if source != options.source:
            continue
        header = json.loads(header)
        if kind == "heartbeat":
            last_sign, deadline_s = time.monotonic(), header["deadline_ms"] / 1000
            continue
        values = np.frombuffer(embedding[0], dtype="<f4").reshape(header["shape"])
        lost = 0 if seq is None or header["seq"] <= seq else header["seq"] - seq - 1    # seq decreased: the daemon was restarted
        seq, count, trusted = header["seq"], count + 1, header["quality"] in ("ok", "degraded")
        action = header.get("action", "no action") if trusted else options.neutral
        act(action, f"frame {header.get('frame')} {header['quality']} lost {lost} |embedding| {np.linalg.norm(values):.3f}")
        last_sign = time.monotonic() if trusted else last_sign


if __name__ == "__main__":
    main()
