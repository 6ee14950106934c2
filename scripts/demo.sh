#!/usr/bin/env bash
# The main job, live: a microscope, the daemon and a stimulus controller as three processes over real sockets.
#
#   scripts/demo.sh [SECONDS]               a simulated fly, its actions named by the trained model, beside the truth
#   scripts/demo.sh --recording [SECONDS]   a recorded fly (two channels, real motion) and a model with random weights
#
# MODEL=models/mine.toml FLY=sim:seed=3,animal=2 scripts/demo.sh takes another model and another simulated fly.
set -euo pipefail
cd "$(dirname "$0")/.."
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.runtime/libonnxruntime.so}
haltere=target/release/haltere
# Or the smaller one that `make demo` builds.
[ -x "$haltere" ] || haltere=target/demo/haltere
model=${MODEL:-models/fly.toml}
# No model was trained on an animal of seed 9001. Of its recordings this one is the first (animal by animal, twenty trials each) with
# at least four different actions of a second or more each while it is watched (frames 295 to 600). So it was chosen by what
# the fly does, not by what a model makes of it; tests/parts/demo.rs is that search.
fly=sim:seed=9001,animal=1,trial=4,seconds=60
fly=${FLY:-$fly}

what=simulated
if [ "${1:-}" = --recording ]; then
  what=recording
  shift
fi
seconds=${1:-20}
if [ "$what" = simulated ] && [ ! -e "$model" ]; then
  if [ "$haltere" = target/demo/haltere ]; then
    echo "$model does not exist, and this build cannot make another: run make demo-recording" >&2
    exit 1
  fi
  echo "$model does not exist: the demo falls back to a recorded fly and an untrained model, which names no actions."
  echo "The README's section \"Train a model\" says how to make one."
  echo
  what=recording
fi

folder=$(mktemp -d)
jobs=()
clean_up() {
  [ ${#jobs[@]} -eq 0 ] || kill "${jobs[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap clean_up EXIT
fail() { echo "$1" >&2; cat "$folder"/*.log >&2; exit 1; }

play=(--source demo --endpoint "ipc://$folder/frames")
watch=(--endpoint "ipc://$folder/decodes" --seconds "$seconds")
if [ "$what" = simulated ]; then
  model=$(realpath "$model")
  warm_up=17
  play+=("$fly")
  watch+=(--truth "$fly")
  echo "microscope            a simulated fly that the model never saw ($fly), two channels, 16 frames/s"
  echo "daemon                registers, computes ΔF/F, encodes, names the action: $(basename "$model")"
else
  recording=tests/data/fly_vnc_2p
  "$haltere" model init --name demo --out "$folder" --input 1x128x128 --channels 1 --seed 1 >"$folder/model.log" || fail "no model:"
  model=$folder/demo.toml
  warm_up=9
  play+=("$recording/tdTom.tif" --channel-file "$recording/GC6s.tif" --rate 30 --loop 0)
  echo "microscope            a fly's ventral nerve cord, 256×256, tdTomato and GCaMP6s, real motion, 30 frames/s"
  echo "daemon                registers on tdTomato, decodes GCaMP6s with an untrained network: an embedding, no action"
fi
cat >"$folder/rig.toml" <<TOML
rig = "demo"
model = "$model"
[source]
endpoint = "ipc://$folder/frames"
[publish]
endpoint = "ipc://$folder/decodes"
[control]
endpoint = "off"
TOML
echo "stimulus controller   shows the decodes it receives for $seconds seconds"

"$haltere" run --config "$folder/rig.toml" 2>"$folder/run.log" &
daemon=$!
jobs+=("$daemon")
"$haltere" play "${play[@]}" 2>"$folder/play.log" &
jobs+=("$!")

# At the microscope's own rate: the daemon would mark a faster one as degraded.
printf 'warming up (template, baseline, statistics: about %s s) ' "$warm_up"
for _ in $(seq 240); do
  grep -q "warm-up over" "$folder/run.log" && break
  kill -0 "${jobs[@]}" 2>/dev/null || fail "a process ended:"
  printf .
  sleep 0.5
done
grep -q "warm-up over" "$folder/run.log" || fail "the daemon did not become ready:"
echo
if [ "$what" = simulated ]; then
  echo "Every decode is scored; at most five per second are shown:"
  printf '%8s  %-18s %4s  %-20s  %-34s\n' frame decoded prob "truth" "so far"
fi
"$haltere" watch "${watch[@]}" || fail "watch failed:"
kill -INT "$daemon"
wait "$daemon" || fail "the daemon failed:"
if [ "$what" = simulated ]; then
  echo
  echo "The fly is simulated frame by frame by the code of \`haltere simulate\`; its true actions are known, so every decode can be scored."
  sed -n "s/^trained_on = \"\(.*\)\"/The model was trained on other flies of the same kind: \1./p" "$model"
  echo "Balanced accuracy: the mean over the actions that occurred. One fly for a few seconds is a small sample; see benches/results for more."
fi
