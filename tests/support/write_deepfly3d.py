"""Writes a pickle as DeepFly3D does, with Python's pickle and NumPy. Knows nothing of the reader.

    python3 write_deepfly3d.py OUT.pkl PROTOCOL KIND

KIND: `usual` (float64, C order), `fortran` (column-major), `single` (float32), `whole` (int64), `big` (big-endian float64), `strided` (a view
that is neither), `ordered` (an OrderedDict with nested dictionaries, scalars and an array of objects), `array` (points3d alone), `system`
(a dictionary in which os.system waits to be called; it would make the file OUT.pkl.ran).

There are 50 frames. points3d[frame, joint, axis] is 256 frame + 4 joint + axis, points2d[camera, frame, joint, axis] is
16384 camera + 256 frame + 4 joint + axis; points3d_wo_procrustes is -points3d.
"""
import collections
import os
import pickle
import sys

import numpy as np

FRAMES, JOINTS, CAMERAS = 50, 38, 7


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def main():
    out, protocol, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    frame, joint, axis = np.ogrid[:FRAMES, :JOINTS, :3]
    points3d = (256 * frame + 4 * joint + axis).astype(np.float64)
    camera, frame, joint, axis = np.ogrid[:CAMERAS, :FRAMES, :JOINTS, :2]
    points2d = (16384 * camera + 256 * frame + 4 * joint + axis).astype(np.float64)
    make = {
        "fortran": np.asfortranarray,
        "single": lambda a: a.astype(np.float32),
        "whole": lambda a: a.astype(np.int64),
        "big": lambda a: a.astype(">f8"),
        "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    }.get(kind, lambda a: a)
    result = {
        "points3d": make(points3d),
        "points2d": make(points2d),
        "points3d_wo_procrustes": -make(points3d),
        "camera_ordering": np.arange(CAMERAS),
    }
    for index in range(CAMERAS):
        result[index] = {"R": np.eye(3), "tvec": np.zeros(3), "intr": np.eye(3), "distort": np.zeros(5), "vis": None}
    if kind == "ordered":
        result = collections.OrderedDict(result)
        result["nested"] = {"deep": [(1, 2.5, "text", b"bytes"), {"k": np.float32(1.5)}, np.int64(-3), True]}
        result["objects"] = np.array([1, "a", None], dtype=object)
    if kind == "system":
        result["trap"] = Trap(out + ".ran")
    if kind == "array":
        result = points3d
    with open(out, "wb") as file:
        pickle.dump(result, file, protocol)


main()
