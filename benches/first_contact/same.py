"""Compares the embeddings of one movie by the CPU and by a GPU: FOLDER holds cpu.npy, gpu.npy, again.npy and graph.npy, with a .csv each, as
`haltere embed` writes them.

same.py FOLDER

Ends with 1 if one is missing or not finite, if the GPU differs from the CPU by more than the bound, or if two runs on the GPU, or a run by one
graph, differ in a bit.
"""
import csv
import pathlib
import sys

import numpy as np

# Of an embedding of length 1. The CPU and the GPU add in another order.
BOUND = 1e-3
NAMES = ("cpu", "gpu", "again", "graph")


def qualities(path):
    """How many rows have which quality."""
    with open(path, newline="") as rows:
        seen = [row["quality"] for row in csv.DictReader(rows)]
    return {quality: seen.count(quality) for quality in sorted(set(seen))}


def compared(folder):
    """Everything that is wrong; prints what was measured."""
    there = {name: np.load(folder / f"{name}.npy") for name in NAMES if (folder / f"{name}.npy").exists()}
    wrong = [f"there is no {name}.npy" for name in NAMES if name not in there]
    cpu = there.get("cpu")
    for name, values in there.items():
        if not np.isfinite(values).all():
            wrong.append(f"{name}.npy is not finite")
        if cpu is None or values.shape != cpu.shape:
            wrong.append(f"{name}.npy is {values.shape}, and that of the CPU is not")
            continue
        apart = np.abs(values.astype(np.float64) - cpu).max(axis=1)
        over = np.flatnonzero(apart > BOUND)
        first = f", the first frame above {BOUND:g} is {over[0]}" if over.size else ""
        print(f"{name}: {values.shape}, {qualities(folder / f'{name}.csv')}, at most {apart.max():.2e} from the CPU{first}")
        if over.size:
            wrong.append(f"{name}.npy is further than {BOUND:g} from the CPU")
    for name, what in (("again", "a second run on the GPU"), ("graph", "a run by one graph")):
        if name in there and "gpu" in there:
            equal = there[name].tobytes() == there["gpu"].tobytes()
            print(f"{what} is {'bit-identical' if equal else 'NOT bit-identical'}")
            wrong += [] if equal else [f"{name}.npy differs from gpu.npy"]
    return wrong


if __name__ == "__main__":
    faults = compared(pathlib.Path(sys.argv[1]))
    print("\n".join(faults) if faults else "the same")
    sys.exit(bool(faults))
