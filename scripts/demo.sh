#!/usr/bin/env bash
# The main job, live: a microscope, the daemon and a stimulus controller as three processes over real sockets.
# A recorded fly ventral nerve cord (two channels, real motion) is played in a loop; the model is untrained, so that the
# embedding moves with the frames but names no action.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
haltere=target/release/haltere
folder=$(mktemp -d)
frames=ipc://$folder/frames decodes=ipc://$folder/decodes
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

echo "A microscope plays a fly's ventral nerve cord (256×256, red: tdTomato, green: GCaMP6s) at 30 frames/s,"
echo "the daemon registers on red, decodes green, and a stimulus controller shows what it hears for $seconds seconds."
echo
"$haltere" play tests/data/fly_vnc_2p/tdTom.tif --channel-file tests/data/fly_vnc_2p/GC6s.tif \
  --rate 30 --loop 0 --endpoint "$frames" --source demo --no-wait 2>"$folder/play.log" &
"$haltere" run --config config/demo.toml --set source.endpoint="$frames" --set publish.endpoint="$decodes" \
  --set control.endpoint="ipc://$folder/control" 2>"$folder/run.log" &
daemon=$!
"$haltere" watch --endpoint "$decodes" --seconds "$seconds" || { cat "$folder"/*.log >&2; exit 1; }
kill -INT "$daemon"
wait "$daemon" || { echo "the daemon failed:" >&2; cat "$folder/run.log" >&2; exit 1; }
