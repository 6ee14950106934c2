"""A stimulus controller in pyzmq: acts on haltere's decodes and falls back to the neutral action when they cannot be trusted.

    python subscriber.py --neutral resting [--source rig1] [--decodes 100] [--act-ms 60]
    python subscriber.py --curve anna.key_secret --server rig2.key    # keys from `haltere keys` or zmq.auth.create_certificates

The rules, in every language:
1. Act only on quality "ok" (or "degraded", if you accept it); for anything else take the neutral action.
2. If no heartbeat arrives for `deadline_ms`, take the neutral action.
3. A jump in `seq` means that you lost decodes.
4. Read everything that waits, act on the newest decode only, and refuse one that was published longer ago than `deadline_ms`: a queue of
   decodes is a queue of old decodes.
"""
import argparse
import json
import time

import numpy as np
import zmq
import zmq.auth

LEAK = 1 / 5000      # clocks of two machines drift apart by less than 200 ppm


def act(action, why, slow_s):
    """Replace this with your stimulus."""
    print(f"{action:<12} {why}", flush=True)
    time.sleep(slow_s)


class Age:
    """How long ago a message was published, in seconds, by its `t_pub_ns` (CLOCK_MONOTONIC of the daemon's machine).

    On the daemon's machine that is this program's own clock. From another machine, the smallest difference seen so far is that of a
    message that did not wait; every other one is that much older.
    """

    def __init__(self, same_machine):
        self.same_machine, self.least, self.last = same_machine, None, 0.0

    def of(self, header):
        now = time.monotonic()
        difference = now - header["t_pub_ns"] / 1e9
        if self.same_machine:
            return difference
        leaked = difference if self.least is None else self.least + (now - self.last) * LEAK
        self.least, self.last = min(difference, leaked), now
        return difference - self.least


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5711")
    parser.add_argument("--source", default="rig1")
    parser.add_argument("--neutral", default="neutral", help="the action to take when no decode can be trusted")
    parser.add_argument("--decodes", type=int, help="stop after this many decodes (default: never)")
    parser.add_argument("--curve", metavar="FILE", help="connect with this secret key (NAME.key_secret) and encrypt")
    parser.add_argument("--server", metavar="FILE", help="the daemon's public key (its NAME.key), with --curve")
    parser.add_argument("--act-ms", type=float, default=0.0, help="pretend that acting takes this long")
    options = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.SUB)
    if options.curve:
        socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(options.curve)
        socket.curve_serverkey, _ = zmq.auth.load_certificate(options.server)
    for kind in ("decode", "heartbeat"):
        socket.subscribe(f"{kind}/{options.source}")     # a prefix: rig1 also lets rig10 through, see below
    socket.connect(options.endpoint)
    local = options.endpoint.startswith(("ipc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]:"))
    age, slow_s = Age(local), options.act_ms / 1000
    deadline_s, last_sign, trusted, seq, count = 1.0, time.monotonic(), False, None, 0
    while options.decodes is None or count < options.decodes:
        newest, lost, passed_over = None, 0, 0
        wait_ms = 10
        while socket.poll(wait_ms):
            topic, header, *embedding = socket.recv_multipart()
            wait_ms = 0                                  # from now on only what waits already
            kind, _, source = topic.decode().partition("/")
            if source != options.source:
                continue
            header = json.loads(header)
            old_s = age.of(header)
            if kind == "heartbeat":
                deadline_s = header["deadline_ms"] / 1000
                last_sign = max(last_sign, time.monotonic() - old_s)
                continue
            lost += 0 if seq is None or header["seq"] <= seq else header["seq"] - seq - 1    # seq decreased: the daemon was restarted
            seq, count, passed_over = header["seq"], count + 1, passed_over + (newest is not None)
            newest = (header, embedding[0], time.monotonic() - old_s)
        if newest is not None:
            header, body, published = newest
            old_s = time.monotonic() - published
            fresh = old_s <= deadline_s
            trusted = fresh and header["quality"] in ("ok", "degraded")
            last_sign = max(last_sign, published) if trusted else last_sign
            values = np.frombuffer(body, dtype="<f4").reshape(header["shape"])
            action = header.get("action", "no action") if trusted else options.neutral
            quality = header["quality"] if fresh else "too old"
            act(action, f"frame {header.get('frame')} {quality} lost {lost} |embedding| {np.linalg.norm(values):.3f}"
                f" passed over {passed_over} published {old_s * 1000:.1f} ms ago", slow_s)
        elif trusted and time.monotonic() - last_sign > deadline_s:
            trusted = False
            act(options.neutral, "daemon silent", slow_s)


if __name__ == "__main__":
    main()
