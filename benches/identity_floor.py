"""How well does what an animal does tell which animal it is? The floor under every identity probe.

    python benches/identity_floor.py FOLDER [FOLDER ...] [--unseen 2 --seed 1]

FOLDER is a population of `haltere simulate`. From the true action alone the animal is named as the one that does it most often,
counted on the other trials of each animal and tested on the one left out: a representation that holds the action and nothing else
reaches this, because animals differ in how they spend their time. Leaves out the animals that `haltere compare` leaves out.
"""
import argparse
import collections
import csv
from pathlib import Path


def actions(trial):
    with open(trial / "truth.csv", newline="") as file:
        return collections.Counter(row["label"] for row in csv.DictReader(file) if row["label"])


def floor(population, unseen, seed):
    animals = sorted(population.glob("fly_*"))
    left_out = {(seed * unseen + n) % len(animals) for n in range(unseen)}
    trials = [[actions(trial) for trial in sorted(animal.glob("[0-9]*"))]
              for index, animal in enumerate(animals) if index not in left_out]
    recalls = []
    for tested in range(min(map(len, trials))):
        known = [sum((t for n, t in enumerate(own) if n != tested), collections.Counter()) for own in trials]
        share = [{action: count / own.total() for action, count in own.items()} for own in known]
        guess = {action: max(range(len(known)), key=lambda a: share[a].get(action, 0.0)) for own in known for action in own}
        for index, own in enumerate(trials):
            right = sum(count for action, count in own[tested].items() if guess.get(action) == index)
            recalls.append(right / own[tested].total())
    return 100 * sum(recalls) / len(recalls), 100 / len(trials)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("population", type=Path, nargs="+")
    parser.add_argument("--unseen", type=int, default=2, help="animals that compare leaves out")
    parser.add_argument("--seed", type=int, default=1, help="of compare, which chooses them")
    arguments = parser.parse_args()
    for population in arguments.population:
        reached, chance = floor(population, arguments.unseen, arguments.seed)
        print(f"{population.name}: {reached:.1f} % from the true action alone, chance {chance:.1f} %")


main()
