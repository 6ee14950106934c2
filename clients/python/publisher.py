"""A microscope in Python: publishes frames in haltere's format, with the package `haltere` beside this script.

    python publisher.py                       # drifting synthetic spots, 30 frames/s, until Ctrl-C
    python publisher.py --movie frames.npy    # (time, height, width) or (time, channel, height, width)
"""
import argparse
import time

import numpy as np

from haltere import ClientKeys, Publisher, ServerKeys


def synthetic(n=300, side=512):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side]
    spots = sum(np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 60.0) for cy, cx in rng.uniform(40, side - 40, (40, 2)))
    for t in range(n):
        shifted = np.roll(spots, (round(3 * np.sin(t / 20)), round(2 * np.cos(t / 13))), (0, 1))
        yield rng.poisson(100 + 800 * shifted).astype(np.uint16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5710")
    parser.add_argument("--connect", action="store_true", help="connect instead of bind (the daemon's source must then bind)")
    parser.add_argument("--push", action="store_true", help="PUSH instead of PUB (the daemon's source must then be a PULL)")
    parser.add_argument("--movie", help=".npy file; without it, synthetic spots")
    parser.add_argument("--hz", type=float, default=30.0)
    parser.add_argument("--frames", type=int, help="stop after this many frames (default: never)")
    parser.add_argument("--source", default="rig1", help="name of the rig: A-Z a-z 0-9 _ . -")
    parser.add_argument("--curve", metavar="FILE", help="encrypt, with this secret key (NAME.key_secret)")
    parser.add_argument("--server", metavar="FILE", help="with --curve and --connect: the daemon's public key (its NAME.key)")
    parser.add_argument("--clients", metavar="FOLDER", help="with --curve, without --connect: public keys of the daemons that may connect")
    options = parser.parse_args()

    keys = None
    if options.curve:
        keys = ClientKeys(options.curve, options.server) if options.connect else ServerKeys(options.curve, options.clients)
    frames = list(np.load(options.movie) if options.movie else synthetic())
    with Publisher(options.endpoint, source=options.source, connect=options.connect, push=options.push, keys=keys) as microscope:
        start, number = time.monotonic(), 0
        while options.frames is None or number < options.frames:
            time.sleep(max(0.0, start + number / options.hz - time.monotonic()))
            microscope.send(frames[number % len(frames)], number)
            number += 1


if __name__ == "__main__":
    main()
