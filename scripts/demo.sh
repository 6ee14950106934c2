#!/usr/bin/env bash
# The main job, live: a microscope, the daemon and a stimulus controller as three processes over real sockets.
# A recorded fly ventral nerve cord (two channels, real motion) is played in a loop. The model has random weights: its
# embedding moves with the animal's tissue, and it names no action.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.runtime/libonnxruntime.so}
haltere=target/release/haltere
recording=tests/data/fly_vnc_2p
folder=$(mktemp -d)
jobs=()
clean_up() {
  [ ${#jobs[@]} -eq 0 ] || kill "${jobs[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap clean_up EXIT
fail() { echo "$1" >&2; cat "$folder"/*.log >&2; exit 1; }

"$haltere" model init --name demo --out "$folder" --input 1x128x128 --channels 1 --seed 1 >"$folder/model.log" || fail "no model:"
cat >"$folder/rig.toml" <<TOML
rig = "demo"
model = "demo.toml"
[source]
endpoint = "ipc://$folder/frames"
[publish]
endpoint = "ipc://$folder/decodes"
[control]
endpoint = "off"
TOML

echo "microscope            a fly's ventral nerve cord, 256×256, tdTomato and GCaMP6s, real motion, 30 frames/s"
echo "daemon                registers on tdTomato, decodes GCaMP6s with an untrained network: an embedding, no action"
echo "stimulus controller   shows what it hears for $seconds seconds"
"$haltere" run --config "$folder/rig.toml" 2>"$folder/run.log" &
daemon=$!
jobs+=("$daemon")
"$haltere" play "$recording/tdTom.tif" --channel-file "$recording/GC6s.tif" --rate 30 --loop 0 --source demo \
  --endpoint "ipc://$folder/frames" 2>"$folder/play.log" &
jobs+=("$!")

printf 'warming up (template, baseline, statistics: some 9 s) '
for _ in $(seq 120); do
  grep -q "warm-up over" "$folder/run.log" && break
  kill -0 "${jobs[@]}" 2>/dev/null || fail "a process ended:"
  printf .
  sleep 0.5
done
grep -q "warm-up over" "$folder/run.log" || fail "the daemon did not become ready:"
echo
"$haltere" watch --endpoint "ipc://$folder/decodes" --seconds "$seconds" || fail "watch failed:"
kill -INT "$daemon"
wait "$daemon" || fail "the daemon failed:"
