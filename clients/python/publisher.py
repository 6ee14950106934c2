"""A microscope in pyzmq: publishes frames in haltere's format. Copy what you need; it only uses pyzmq and numpy.

    python publisher.py                       # drifting synthetic spots, 30 frames/s, until Ctrl-C
    python publisher.py --movie frames.npy    # (time, height, width) or (time, channel, height, width)
"""
import argparse
import time

import numpy as np
import zmq
import zmq.auth
import zmq.auth.thread


def send_frame(socket, frame, number, source):
    """pyzmq's documented send_array recipe, with haltere's optional keys: JSON header, then the raw pixels.

    Add `"stimulus": True` if light went in during this frame, or `"valid": False` if it is worthless: the daemon then does not learn from it.
    """
    header = {
        "dtype": str(frame.dtype), "shape": frame.shape,          # the only two required keys
        "frame": number, "source": source,
        "timestamp_ns": time.monotonic_ns(), "clock": "monotonic", "stamp": "end",
    }
    socket.send_json(header, zmq.SNDMORE)
    socket.send(np.ascontiguousarray(frame), copy=True)


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

    frames = list(np.load(options.movie) if options.movie else synthetic())
    socket = zmq.Context.instance().socket(zmq.PUSH if options.push else zmq.PUB)
    socket.setsockopt(zmq.SNDHWM, 16)
    if options.curve:
        socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(options.curve)
        if options.connect:
            socket.curve_serverkey, _ = zmq.auth.load_certificate(options.server)
        else:
            socket.curve_server, authenticator = True, zmq.auth.thread.ThreadAuthenticator(zmq.Context.instance())
            authenticator.start()
            authenticator.configure_curve(domain="*", location=options.clients)
    (socket.connect if options.connect else socket.bind)(options.endpoint)
    start, number = time.monotonic(), 0
    while options.frames is None or number < options.frames:
        time.sleep(max(0.0, start + number / options.hz - time.monotonic()))
        send_frame(socket, frames[number % len(frames)], number, options.source)
        number += 1
    socket.close()
    if options.curve and not options.connect:
        authenticator.stop()
    zmq.Context.instance().term()       # waits until the last frames are sent; a program that simply exits may lose them


if __name__ == "__main__":
    main()
