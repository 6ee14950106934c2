"""A stimulus controller in Python: acts on haltere's decodes and falls back to the neutral action when they cannot be trusted.

    python subscriber.py --neutral resting [--source rig1] [--decodes 100] [--act-ms 60]
    python subscriber.py --curve anna.key_secret --server rig2.key    # keys from `haltere keys` or zmq.auth.create_certificates

The rules that make this safe are in the package `haltere` beside this script (haltere/subscriber.py): what you need is `act`.
"""
import argparse
import time

import numpy as np

from haltere import ClientKeys, Subscriber


def act(action, why, slow_s):
    """Replace this with your stimulus."""
    print(f"{action:<12} {why}", flush=True)
    time.sleep(slow_s)


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

    keys = ClientKeys(options.curve, options.server) if options.curve else None
    count = 0
    with Subscriber(options.endpoint, source=options.source, neutral=options.neutral, keys=keys) as decodes:
        for advice in decodes:
            why = advice.why
            if advice.embedding is not None:
                count += 1 + advice.passed_over
                why = (f"frame {advice.header.get('frame')} {why} lost {advice.lost} |embedding| {np.linalg.norm(advice.embedding):.3f}"
                       f" passed over {advice.passed_over} published {advice.age_s * 1000:.1f} ms ago")
            act(advice.action or "no action", why, options.act_ms / 1000)
            if options.decodes is not None and count >= options.decodes:
                break


if __name__ == "__main__":
    main()
