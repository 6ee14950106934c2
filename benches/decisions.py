#!/usr/bin/env python3
"""What a rule is worth beside the most probable action, on simulated flies that no model and no rule has seen.

Each fly is recorded in real time (`play`, `run --record`, decodes without pixels). `haltere decide` then makes the decisions of rules on the
recorded decodes and holds them against the true bouts. One rule for each action, of one form:

    when = "p(ACTION) > ENTER", leave = "p(ACTION) < LEAVE", enter_frames = "N of M"

ENTER, LEAVE and N of M are chosen on other flies than those of the table: of a grid, the one of the best F1 over all actions, where a hit is a bout
with a decision within 0.5 s of its beginning, and a false alarm a decision outside every bout. Beside it stands the most probable action itself,
`when = "action == ACTION"`, and the whole curve over ENTER. The published action is that of `[decision.action]` as `haltere demo` has it, and with its defaults. The demo's setting was chosen
on the same flies as the rule: the most frames right among those that change at most twice as often as the truth.

  benches/decisions.py --out benches/results/2026-11-decisions.md [--haltere target/release/haltere] [--sessions FOLDER]

With --sessions, recordings that are there already are used. Needs nothing but Python.
"""

import argparse
import collections
import itertools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/fly.toml"
SECONDS = 255
TUNED_ON = [8801, 8802, 8803]
TESTED_ON = [8811, 8812, 8813, 8814, 8815, 8816]
# The grid: ENTER, LEAVE as a share of it, N of M.
ENTER = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
LEAVE = [1.0, 0.5, 0.25]
# Levels of the curve: also below the grid, to where as many bouts are hit as by the most probable action.
CURVE = [0.2, 0.3, 0.4, *ENTER]
FRAMES = ["1 of 1", "2 of 2", "2 of 3", "3 of 3", "3 of 4", "4 of 5"]
# `[decision.action]` as the demo has it (src/client/demo/rules.rs), and the other settings it was chosen from.
ACTION = ("p > 0.4", "3 of 3")
ACTIONS = list(itertools.product(["p > 0.3", "p > 0.4", "p > 0.5"], ["2 of 2", "2 of 3", "3 of 4", "3 of 3", "4 of 6"]))
# Rules that one configuration may hold.
RULES_MAX = 16

Sums = collections.namedtuple("Sums", "bouts hits late missed false_alarms minutes")


def fly(seed):
    return f"sim:seed={seed},animal=1,trial=1,seconds={SECONDS}"


def record(haltere, seed, folder):
    """Starts the recording of one fly; gives the processes and where the session will be."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, decodes = (f"ipc://{folder}/{name}" for name in ("frames", "decodes"))
    sets = {"rig": f"r{seed}", "source.pattern": "pull", "source.endpoint": frames, "publish.endpoint": decodes,
            "control.endpoint": "off", "lane.overload": "wait", "record.frames": "false"}
    daemon = [haltere, "run", "--once", "--model", MODEL, "--record", folder]
    daemon += [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    play = [haltere, "play", fly(seed), "--push", "--endpoint", frames, "--source", f"r{seed}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    return [subprocess.Popen(command, **quiet) for command in (daemon, play)]


def sessions(haltere, folder):
    """The session of each seed, recorded where it is not there yet."""
    missing = [seed for seed in TUNED_ON + TESTED_ON if not list((folder / str(seed)).rglob("*.mcap"))]
    begun = [process for seed in missing for process in record(haltere, seed, folder / str(seed))]
    failed = [process.args for process in begun if process.wait()]
    if failed:
        sys.exit(f"failed: {failed}")
    return {seed: next((folder / str(seed)).rglob("*.mcap")) for seed in TUNED_ON + TESTED_ON}


def decide(haltere, session, seed, rules, action=ACTION):
    """What `haltere decide` says of these rules: a dictionary of keys for each name."""
    sets = ["decision.action.on=true", f"decision.action.when={action[0]}", f"decision.action.enter_frames={action[1]}"]
    sets += [f"decision.{name}.{key}={value}" for name, rule in rules.items() for key, value in rule.items() if key != "target"]
    command = [haltere, "decide", session, "--labels", fly(seed), "--json"]
    command += [word for each in sets for word in ("--set", each)]
    command += [word for name, rule in rules.items() for word in ("--target", f"{name}={rule['target']}")]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


def rules_of(label, points):
    """One rule for each point of the grid; `None` is the most probable action."""
    rules = {}
    for at, point in enumerate(points):
        rule = {"target": label, "quality": "degraded", "when": f"action == {label}"}
        if point:
            enter, leave, frames = point
            rule |= {"when": f"p({label}) > {enter}", "leave": f"p({label}) < {enter * leave:.4f}", "enter_frames": frames}
        rules[f"r{at}"] = rule
    return rules


def score(haltere, recorded, seeds, labels, points):
    """Sums of each point over seeds and actions, and those of each action."""
    sums = collections.defaultdict(lambda: collections.defaultdict(lambda: Sums(0, 0, 0, 0, 0, 0.0)))
    for seed, label in itertools.product(seeds, labels):
        for begin in range(0, len(points), RULES_MAX):
            some = points[begin : begin + RULES_MAX]
            verdict = decide(haltere, recorded[seed], seed, rules_of(label, some))
            for point, rule in zip(some, verdict["rules"]):
                one = rule["score"]
                found = Sums(one["bouts"], one["hits"], one["late"], one["missed"], one["false_alarms"], verdict["seconds"] / 60)
                sums[point][label] = Sums(*map(sum, zip(sums[point][label], found)))
    return sums


def total(by_label):
    """Over all actions; the time is that of the flies, not of flies times actions."""
    sums = Sums(*map(sum, zip(*by_label.values())))
    return sums._replace(minutes=sums.minutes / len(by_label))


def f1(sums):
    return 2 * sums.hits / max(1, sums.bouts + sums.hits + sums.false_alarms)


def row(name, sums):
    share = lambda count: f"{100 * count / max(1, sums.bouts):.1f} %"
    return (f"| {name} | {sums.bouts} | {share(sums.hits)} | {share(sums.late)} | {share(sums.missed)} | "
            f"{sums.false_alarms / sums.minutes:.2f} | {f1(sums):.3f} |")


HEAD = ["| | bouts | hit within 0.5 s | later | missed | false alarms per minute | F1 |", "|---|---|---|---|---|---|---|"]


def named(point):
    enter, leave, frames = point
    return f"p > {enter}, leave p < {enter * leave:g}, {frames}"


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def action_score(verdicts):
    """Share of frames right, if it changes at most twice as often as the truth."""
    actions = [verdict["action"] for verdict in verdicts]
    changes, true = (sum(of(action) for action in actions) for of in (lambda a: a["switches_per_s"][0], lambda a: a["true_switches_per_s"]))
    return sum(action["accuracy"][0] for action in actions) if true / 2 <= changes <= 2 * true else 0.0


def action_rows(verdicts):
    rows = ["| fly | changes per second: published | most probable | true | frames right: published | most probable |", "|---|---|---|---|---|---|"]
    columns = []
    for seed, verdict in verdicts.items():
        action = verdict["action"]
        columns.append([*action["switches_per_s"], action["true_switches_per_s"], *action["accuracy"]])
        rows.append(action_row(str(seed), columns[-1]))
    rows.append(action_row("mean", [sum(column) / len(columns) for column in zip(*columns)]))
    return rows


def action_row(name, values):
    shown, raw, true, right, right_raw = values
    return f"| {name} | {shown:.2f} | {raw:.2f} | {true:.2f} | {100 * right:.1f} % | {100 * right_raw:.1f} % |"


def write(out, haltere, recorded, labels):
    grid = list(itertools.product(ENTER, LEAVE, FRAMES))
    tuned = score(haltere, recorded, TUNED_ON, labels, grid)
    best = max(grid, key=lambda point: f1(total(tuned[point])))
    curve, plain = ([(enter, leave, best[2]) for enter in CURVE] for leave in (best[1], 1.0))
    tested = score(haltere, recorded, TESTED_ON, labels, list(dict.fromkeys([None, best, *curve, *plain])))
    published = lambda action, seeds: {seed: decide(haltere, recorded[seed], seed, {}, action) for seed in seeds}
    chosen = max(ACTIONS, key=lambda action: action_score(published(action, TUNED_ON).values()))
    if chosen != ACTION:
        sys.exit(f"ACTION of this script and of the demo would be {chosen}")
    cost = [decide(haltere, recorded[seed], seed, {f"{label[:8]}{at}": rule for at, label in enumerate(labels) for rule in rules_of(label, [best]).values()})["step_us"] for seed in TESTED_ON]
    version = subprocess.run([haltere, "--version"], capture_output=True, text=True).stdout.strip()
    text = [
        "# Decisions: a rule beside the most probable action", "",
        f"`benches/decisions.py` ({version}; {machine()}). Simulated flies, {SECONDS} s each, recorded in real time with models/fly, which was trained on other seeds. "
        f"Rules are chosen on the seeds {', '.join(map(str, TUNED_ON))} and scored on {', '.join(map(str, TESTED_ON))}, which served for nothing else.", "",
        "## Bouts, all actions together", "", *HEAD,
        row("most probable action", total(tested[None])),
        row(f"**rule** ({named(best)})", total(tested[best])), "",
        f"On the flies it was chosen on, the rule's F1 is {f1(total(tuned[best])):.3f}; {len(grid)} were tried.", "",
        "## Hits against false alarms", "", "The same rule at other levels, on the same unseen flies, beside the most probable action:", "", *HEAD, row("most probable action", total(tested[None])),
        *[row(named(point), total(tested[point])) for point in curve], "",
        "Without hysteresis:", "", *HEAD, *[row(named(point), total(tested[point])) for point in plain], "",
        "## Each action", "", *HEAD,
        *[line for label in labels if tested[best][label].bouts for line in (
            row(f"{label}: most probable", tested[None][label]), row(f"{label}: rule", tested[best][label]))], "",
        "## The published action", "", "`[decision.action]` as the demo has it (p > 0.4, 3 of 3) beside the most probable action:", "",
        *action_rows(published(ACTION, TESTED_ON)), "", "With its defaults (p > 0.5, 3 of 4):", "", *action_rows(published(("p > 0.5", "3 of 4"), TESTED_ON)), "",
        "## Cost", "", f"{len(labels)} rules and `[decision.action]`, on recorded decodes, in one process: "
        f"median {max(c[0] for c in cost):.1f} µs, 99 % {max(c[1] for c in cost):.1f} µs, longest {max(c[2] for c in cost):.1f} µs for each decode "
        "(of six flies the largest).", "",
    ]
    pathlib.Path(out).write_text("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--haltere", default=str(ROOT / "target/release/haltere"), help="the program")
    parser.add_argument("--sessions", type=pathlib.Path, help="keep the recordings here, and use those that are there")
    parser.add_argument("--out", required=True, help="where the table goes")
    options = parser.parse_args()
    labels = tomllib.loads(MODEL.read_text())["labels"]
    with tempfile.TemporaryDirectory() as folder:
        recorded = sessions(options.haltere, options.sessions or pathlib.Path(folder))
        write(options.out, options.haltere, recorded, labels)


if __name__ == "__main__":
    main()
