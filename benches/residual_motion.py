"""What motion is left in real movies after registration: haltere's, suite2p's and the tapered phase correlation's.

    python benches/residual_motion.py PEERS MOVIE.tif [MOVIE.tif ...]

Every method measures the shift of every frame against the same template (the mean of the movie after two rounds of
tapered phase correlation, which favours none but the last) and undoes it: suite2p by whole pixels, as it does, the others
by bilinear interpolation. What is left is then measured by two estimators that are none of them: skimage's upsampled
phase correlation and plain cross-correlation, each against the mean of that method's other aligned frames. Px RMS, both
axes, after removal of the median; and the mean correlation of the aligned frames with their mean. PEERS is the folder
that holds `registration.py`.
"""
import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("peers", type=Path)
parser.add_argument("movies", nargs="+", type=Path)
arguments = parser.parse_args()
sys.path.insert(0, str(arguments.peers))

import numpy as np                                       # noqa: E402
import registration as peers                             # noqa: E402
import tifffile                                          # noqa: E402
from skimage.registration import phase_cross_correlation  # noqa: E402


def shifts_of(method, movie, template):
    half = 0.5 if method == "suite2p" else 1.0           # it works in int16 and halves unsigned counts when it loads them
    estimate, undo, _ = getattr(peers, method)((half * template).astype(np.float32))
    return [estimate(half * frame)[:2] for frame in movie], undo


def haltere(path, template):
    """Shifts by `haltere bench registration` against the same template."""
    with tempfile.TemporaryDirectory() as folder:
        stored, out = Path(folder) / "template.tif", Path(folder) / "shifts.csv"
        tifffile.imwrite(stored, template.astype(np.float32), photometric="minisblack", metadata=None)
        environment = os.environ | {"ORT_DYLIB_PATH": str(ROOT / ".runtime/libonnxruntime.so")}
        subprocess.run([ROOT / "target/release/haltere", "bench", "registration", path, "--template", stored, "--out", out],
                       check=True, capture_output=True, env=environment)
        with open(out, newline="") as file:
            return [(float(row["dy"]), float(row["dx"])) for row in csv.DictReader(file)], peers.align


def aligned(movie, shifts, undo):
    return np.stack([undo(frame, dy, dx) for frame, (dy, dx) in zip(movie, shifts)])


def rms(left):
    left = np.asarray(left, float)
    return float(np.sqrt(np.mean((left - np.median(left, 0)) ** 2)))


def residual(frames):
    """RMS left by two estimators, and the correlation of the frames with their mean; the borders are left out."""
    inner = frames[:, 8:-8, 8:-8].astype(np.float32)
    # Each frame against the mean of the others: a frame that is part of its own reference correlates best with itself.
    others = [(inner.sum(0) - frame) / (len(inner) - 1) for frame in inner]
    pairs = list(zip(others, inner))
    upsampled = [phase_cross_correlation(mean, frame, upsample_factor=20, normalization=None)[0] for mean, frame in pairs]
    crossed = [peers.cross(mean)[0](frame)[:2] for mean, frame in pairs]
    correlation = np.mean([np.corrcoef(mean.ravel(), frame.ravel())[0, 1] for mean, frame in pairs])
    return rms(upsampled), rms(crossed), correlation


def main():
    print("| movie | method | left, skimage px | left, cross-correlation px | correlation with the mean |\n|---|---|---|---|---|")
    for path in arguments.movies:
        movie = tifffile.imread(path).astype(np.float32)
        template = movie.mean(0)
        for _ in range(2):
            template = aligned(movie, *shifts_of("tapered", movie, template)).mean(0)
        methods = {"none": ([(0.0, 0.0)] * len(movie), peers.roll), "haltere": haltere(path, template),
                   "suite2p": shifts_of("suite2p", movie, template), "tapered": shifts_of("tapered", movie, template)}
        for name, (shifts, undo) in methods.items():
            upsampled, cross, correlation = residual(aligned(movie, shifts, undo))
            print(f"| {path.name} | {name} | {upsampled:.3f} | {cross:.3f} | {correlation:.4f} |", flush=True)


if __name__ == "__main__":
    main()
