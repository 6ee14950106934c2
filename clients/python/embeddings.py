"""What `haltere eval MODEL --mc2p FOLDER --out evaluation --embeddings` wrote, read, probed and drawn.

    python embeddings.py evaluation [picture.png]

Every animal is left out once: a linear discriminant of the others' embeddings names its actions. Needs numpy; a picture needs matplotlib. As in
`haltere eval`, a score of an animal whose labels the model was trained on flatters the model: the column `unseen` says which ones are fair.
"""

import csv
import sys
from pathlib import Path

import numpy as np


def load(folder):
    """Embeddings `[samples, dimensions]`, behaviour `[samples, columns]` and the columns of samples.csv as arrays of text."""
    folder = Path(folder)
    with open(folder / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return np.load(folder / "embeddings.npy"), np.load(folder / "behaviour.npy"), table


def discriminant(values, labels, shrinkage=0.2):
    """Linear discriminant with equal priors: names of the classes, weights `[dimensions, classes]`, offsets."""
    names = np.unique(labels)
    means = np.array([values[labels == name].mean(axis=0) for name in names])
    within = values - means[np.searchsorted(names, labels)]
    covariance = within.T @ within / len(values)
    level = np.trace(covariance) / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, means.T)
    return names, weights, -0.5 * np.einsum("cd,dc->c", means, weights)


def balanced_accuracy(truth, named):
    """Mean over the actions that occur of the share that was named rightly."""
    return np.mean([np.mean(named[truth == name] == name) for name in np.unique(truth)])


def main():
    embeddings, _behaviour, table = load(sys.argv[1])
    labelled = table["action"] != ""
    values, action, animal = embeddings[labelled], table["action"][labelled], table["animal"][labelled]
    if not labelled.any() or len(np.unique(animal)) < 2:
        sys.exit("nothing to probe: it takes labels and at least two animals")
    for one in np.unique(animal):
        names, weights, offsets = discriminant(values[animal != one], action[animal != one])
        named = names[np.argmax(values[animal == one] @ weights + offsets, axis=1)]
        truth = action[animal == one]
        unseen = "unseen" if table["unseen"][labelled][animal == one][0] == "true" else "seen by the model"
        chance = 1 / len(np.unique(truth))
        print(f"{one}: balanced accuracy {balanced_accuracy(truth, named):.3f} (chance {chance:.3f}), {unseen}")
    if len(sys.argv) > 2:
        draw(values, action, sys.argv[2])


def draw(values, action, path):
    """The two strongest directions of the embedding, a colour for each action."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    centred = values - values.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    points = centred @ axes[:, -1:-3:-1]
    for name in np.unique(action):
        pyplot.scatter(*points[action == name].T, s=2, label=name)
    pyplot.legend(markerscale=5)
    pyplot.xlabel("first component")
    pyplot.ylabel("second component")
    pyplot.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
