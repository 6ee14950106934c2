"""Writes an analysis file as SLEAP documents it, with h5py. Knows nothing of the reader.

    python3 write_sleap.py OUT.h5 LAYOUT TRACKS

LAYOUT: `sleap` ([tracks, 2, nodes, frames], names as bytes, gzip, no `dims`), `single` (the same in float32),
`plain` ([frames, nodes, 2, tracks], SLEAP without its transposition), `standard` ([frames, tracks, nodes, 2] with `dims` in JSON, as
sleap-io writes for Python), `matlab` (SLEAP's order with `dims`), `odd` ([node, frame, track, xy], which only `dims` can tell).

There are 50 frames and three nodes. Point (track, node, frame) is x = 100 track + 10 node + frame / 64, y = x + 1 / 2. In frame 3 node
"thorax" is missing; track 1 exists in frames 0 to 9 only.
"""
import json
import sys

import h5py
import numpy as np

NODES, FRAMES = ["head", "thorax", "wing_tip"], 50
ORDER = {
    "sleap": "track xy node frame",
    "single": "track xy node frame",
    "plain": "frame node xy track",
    "standard": "frame track node xy",
    "matlab": "track xy node frame",
    "odd": "node frame track xy",
}


def main():
    out, layout, tracks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    track, xy, node, frame = np.ogrid[:tracks, :2, : len(NODES), :FRAMES]
    points = 100.0 * track + 10.0 * node + frame / 64 + xy / 2
    points[:, :, 1, 3] = np.nan
    if tracks > 1:
        points[1, :, :, 10:] = np.nan
    order = ORDER[layout].split()
    points = points.transpose([["track", "xy", "node", "frame"].index(axis) for axis in order])
    if layout == "single":
        points = points.astype(np.float32)
    occupancy = np.ones((FRAMES, tracks), np.uint8)
    names = [f"fly {index}" for index in range(tracks)]
    with h5py.File(out, "w") as file:
        zipped = {"compression": "gzip", "compression_opts": 9}
        tracks_set = file.create_dataset("tracks", data=np.ascontiguousarray(points), **zipped)
        if layout in ("sleap", "single", "plain"):
            file.create_dataset("track_names", data=np.array([name.encode() for name in names]), **zipped)
            file.create_dataset("node_names", data=np.array([name.encode() for name in NODES]), **zipped)
        else:
            tracks_set.attrs["dims"] = json.dumps(order)
            file.attrs["preset"] = layout
            file.create_dataset("track_names", data=names, dtype=h5py.string_dtype())
            file.create_dataset("node_names", data=NODES, dtype=h5py.string_dtype())
        file.create_dataset("track_occupancy", data=occupancy, **zipped)
        file.create_dataset("point_scores", data=np.full((tracks, len(NODES), FRAMES), 0.25), **zipped)
        file.create_dataset("instance_scores", data=np.full((tracks, FRAMES), 0.5), **zipped)
        file.create_dataset("tracking_scores", data=np.zeros((tracks, FRAMES)), **zipped)
        file.create_dataset("edge_inds", data=np.array([[0, 1], [1, 2]]).T, **zipped)
        file.create_dataset("labels_path", data="fly.slp")
        file.create_dataset("provenance", data="{}")


main()
