"""A stimulus controller in pyzmq, on the daemon's machine, that gives the pulses of haltere's decisions and ends them when it must.

1. A `decision` with `what` "output" asks for the pulses of `train`, unless it was published longer ago than `deadline_ms`.
2. "ended" ends what goes on of its rule; so does a decode of quality "stale" or "fail", of every rule.
3. If no heartbeat was published for `deadline_ms`, everything ends.
"""
import argparse
import json
import time

import zmq


def light(rule, on):
    """Replace this with your stimulus: a line of a DAQ, a laser, a projector."""
    print(f"{time.monotonic():.4f} {rule} {'on' if on else 'off'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5711")
    parser.add_argument("--source", default="rig1")
    options = parser.parse_args()
    socket = zmq.Context.instance().socket(zmq.SUB)
    for kind in ("decision", "decode", "heartbeat"):
        socket.subscribe(f"{kind}/{options.source}")
    socket.connect(options.endpoint)
    deadline_s, last_sign, outputs, lit = 1.0, time.monotonic(), {}, set()
    while True:
        if socket.poll(1):
            topic, header, *_ = socket.recv_multipart()
            kind, _, source = topic.decode().partition("/")
            header = json.loads(header) if source == options.source else {}
            if kind == "heartbeat" and header:
                deadline_s, last_sign = header["deadline_ms"] / 1000, header["t_pub_ns"] / 1e9
            elif kind == "decode" and header.get("quality") in ("stale", "fail"):
                outputs.clear()
            elif kind == "decision" and header.get("what") == "output":
                if time.monotonic() - header["t_pub_ns"] / 1e9 <= deadline_s:
                    outputs[header["name"]] = (time.monotonic() + header["train"]["delay_ms"] / 1000, header["train"])
            elif kind == "decision" and header.get("what") == "ended":
                outputs.pop(header["name"], None)
        now = time.monotonic()
        if now - last_sign > deadline_s:
            outputs.clear()
        wanted = set()
        for rule, (begin, train) in list(outputs.items()):
            pulse, within = divmod((now - begin) * 1000, train["period_ms"])
            if pulse >= train["count"]:
                del outputs[rule]
            elif now >= begin and within < train["width_ms"]:
                wanted.add(rule)
        for rule in wanted ^ lit:
            light(rule, rule in wanted)
        lit = wanted


if __name__ == "__main__":
    main()
