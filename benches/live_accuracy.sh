#!/usr/bin/env bash
# Is the running daemon as right as the offline decode? One simulated animal, twice through the same model:
#   live      play → run → watch --json --truth, three processes over sockets, at the animal's own frame rate
#   offline   embed, as fast as it goes, and the same truth
# Compared on the frames of quality ok that both decoded. They must agree within 1 point; that they are the same code makes
# them agree to the bit, except for frames that were lost on the way, and those are counted.
#
#   benches/live_accuracy.sh MODEL.toml SEED ANIMAL [TRIAL [SECONDS]]
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$(realpath "$1") seed=$2 animal=$3 trial=${4:-1} seconds=${5:-120}
cd "$(dirname "$0")/.."
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.runtime/libonnxruntime.so}
haltere=${HALTERE:-target/release/haltere}
fly=sim:seed=$seed,animal=$animal,trial=$trial,seconds=$seconds
folder=$(mktemp -d)
jobs=()
clean_up() {
  [ ${#jobs[@]} -eq 0 ] || kill "${jobs[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap clean_up EXIT
fail() { echo "$1" >&2; cat "$folder"/*.log >&2; exit 1; }
cat >"$folder/rig.toml" <<TOML
rig = "play"
model = "$model"
[source]
endpoint = "ipc://$folder/frames"
[publish]
endpoint = "ipc://$folder/decodes"
[control]
endpoint = "off"
TOML
look_ahead=$(sed -n 's/^look_ahead_frames = //p' "$model")
average=$(sed -n '/^\[preprocess\]/,/^\[/s/^average_frames = //p' "$model")

# The listener and the daemon come first, the microscope waits for the daemon: no frame is lost at the begin.
"$haltere" watch --json --truth "$fly" --look-ahead $((look_ahead * ${average:-1})) --endpoint "ipc://$folder/decodes" \
  >"$folder/watch.json" 2>"$folder/watch.log" &
watcher=$!
jobs+=("$watcher")
"$haltere" run --once --config "$folder/rig.toml" 2>"$folder/run.log" &
daemon=$!
jobs+=("$daemon")
"$haltere" play "$fly" --source play --endpoint "ipc://$folder/frames" 2>"$folder/play.log" || fail "play failed:"
wait "$daemon" || fail "the daemon failed:"
sleep 1
kill -INT "$watcher"
wait "$watcher" || fail "watch failed:"
"$haltere" embed "$fly" --config "$folder/rig.toml" --out "$folder/offline.npy" --csv "$folder/offline.csv" --progress never \
  2>"$folder/embed.log" || fail "embed failed:"

python3 - "$folder" "$fly" "$((look_ahead * ${average:-1}))" <<'PYTHON'
import collections, csv, json, sys

folder, fly, look_ahead = sys.argv[1], sys.argv[2], int(sys.argv[3])
live, true = {}, {}
for line in open(f"{folder}/watch.json"):
    said = json.loads(line)
    header = said["header"] if "header" in said else {}
    if said["topic"].startswith("decode/") and header.get("frame") is not None:
        frame = header["frame"]
        if "truth" in said:
            true[frame] = said["truth"]
        if header["quality"] == "ok":
            live[frame] = header["action"]
rows = csv.DictReader(open(f"{folder}/offline.csv"))
offline = {int(row["frame"]): row["action"] for row in rows if row["quality"] == "ok"}

def scores(decodes, frames):
    hits = collections.defaultdict(list)
    for frame in frames:
        hits[true[frame]].append(decodes[frame] == true[frame])
    recalls = {action: sum(hit) / len(hit) for action, hit in hits.items()}
    return 100 * sum(sum(hit) for hit in hits.values()) / len(frames), 100 * sum(recalls.values()) / len(recalls), hits

both = sorted(set(live) & set(offline) & set(true))
if not both:
    sys.exit(f"no frame of quality ok in both: live {len(live)}, offline {len(offline)}")
print(f"{fly}: {len(both)} frames of quality ok in both (live {len(live)}, offline {len(offline)}; only offline "
      f"{len(set(offline) - set(live))}, only live {len(set(live) - set(offline))})")
print(f"{'':10} {'accuracy %':>11} {'balanced %':>11}")
found = {name: scores(decodes, both) for name, decodes in (("live", live), ("offline", offline))}
for name, (accuracy, balanced, _) in found.items():
    print(f"{name:10} {accuracy:11.2f} {balanced:11.2f}")
differ = sum(live[frame] != offline[frame] for frame in both)
print(f"decodes that name another action: {differ}")
for action, hit in sorted(found["live"][2].items()):
    print(f"           {action:<20} live {100 * sum(hit) / len(hit):6.1f} % of {len(hit)} frames")
gap = max(abs(found["live"][i] - found["offline"][i]) for i in (0, 1))
sys.exit(0 if gap <= 1 else f"live and offline differ by {gap:.2f} points, more than 1")
PYTHON
