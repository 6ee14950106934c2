"""Writes a movie that moves: 700 frames of 512x512 uint16 as raw bytes, the same on every machine.

movie.py FILE.raw [FRAMES [SIDE]]
"""
import sys

import numpy as np

MARGIN_PX = 44


def main(path, frames=700, side=512):
    random = np.random.default_rng(1)
    tissue = random.poisson(40, (side + 2 * MARGIN_PX,) * 2).astype(np.float32)
    blur = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    for axis in (0, 1):
        tissue = np.apply_along_axis(lambda line: np.convolve(line, blur / blur.sum(), "same"), axis, tissue)
    tissue = 40 + 30 * (tissue - tissue.mean()) / tissue.std()
    with open(path, "wb") as out:
        for t in range(frames):
            y, x = MARGIN_PX + round(6 * np.sin(0.21 * t)), MARGIN_PX + round(6 * np.cos(0.13 * t))
            light = tissue[y : y + side, x : x + side] * (1 + 0.2 * np.sin(0.05 * t))
            out.write(random.poisson(np.clip(light, 0, None)).astype("<u2").tobytes())


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
