#!/usr/bin/env bash
# What a second machine costs: microscope and controller in one network namespace, the daemon in another, and between them a cable of a
# given rate in each direction. Prints a Markdown table; the row "no cable" is one machine. Needs root, and a machine that does nothing
# else. Delay, jitter and loss are not emulated: a cable from one machine to the next has none worth the name.
#
#   benches/two_machines.sh [SECONDS]      default: 20 for each row
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20} program=$(realpath "${HALTERE:-target/release/haltere}")
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.runtime/libonnxruntime.so}
folder=$(mktemp -d) scope=hs$$ daemon=hd$$ running=()
end() {
  for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  ip netns del "$scope" 2>/dev/null || true
  ip netns del "$daemon" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT
# Two channels of 512 × 512 of 16 bits, 1 MB a frame, as a microscope with a resonant scanner sends them.
"$program" simulate "$folder/fly" --animals 1 --trials 1 --seconds 8 --set optics.side_px=512 --format tiff >/dev/null
recording=$(find "$folder/fly" -name raw.tif)

# row NAME RATE MTU
row() {
  local name=$1 rate=$2 mtu=$3 there=$daemon
  ip netns add "$scope"
  ip netns add "$daemon"
  ip link add hvs type veth peer name hvd
  ip link set hvs netns "$scope"
  ip link set hvd netns "$daemon"
  for side in "$scope hvs 10.7.0.1" "$daemon hvd 10.7.0.2"; do
    read -r space link address <<<"$side"
    ip -n "$space" link set lo up
    ip -n "$space" link set "$link" mtu "$mtu" up
    ip -n "$space" address add "$address/24" dev "$link"
    [ "$rate" = none ] || ip netns exec "$space" tc qdisc add dev "$link" root tbf rate "$rate" burst 32kb limit 16mb
  done
  [ "$rate" = none ] && there=$scope
  local frames=tcp://10.7.0.2:5710 decodes=tcp://10.7.0.2:5711
  [ "$rate" = none ] && frames=tcp://10.7.0.1:5710 decodes=tcp://10.7.0.1:5711
  ip netns exec "$there" "$program" run --model models/fly.toml --set source.endpoint=$frames --set source.attach=bind \
    --set publish.endpoint=$decodes --set control.endpoint=off --set insecure=true >"$folder/run.log" 2>&1 &
  local run=$!
  running=("$run")
  until grep -q ready: "$folder/run.log"; do
    kill -0 "$run" || { cat "$folder/run.log" >&2; exit 1; }
    sleep 0.1
  done
  ip netns exec "$scope" "$program" watch --endpoint $decodes --seconds "$seconds" >"$folder/watch.log" 2>&1 &
  local watch=$!
  running+=("$watch")
  ip netns exec "$scope" "$program" play --connect --rate 30 --loop 0 --seconds $((seconds + 2)) --endpoint $frames "$recording" \
    >"$folder/play.log" 2>&1 || cat "$folder/play.log" >&2
  wait "$watch" || true
  kill "$run"
  wait "$run" || true
  running=()
  awk -v name="$name" '/^age /{age=$2" | "$3} /^closed loop/{loop=$3" | "$4" | "$7} END{print "| "name" | "age" | "loop" |"}' "$folder/watch.log"
  ip netns del "$scope"
  ip netns del "$daemon"
}
echo "From the microscope's time stamp to the published decode (age), and until the decode is back (closed loop), ms"
echo
echo "| cable | age p50 | p99 | closed loop p50 | p99 | decodes |"
echo "|---|---|---|---|---|---|"
row "no cable" none 1500
row "1 Gbit/s, MTU 1500" 1gbit 1500
row "1 Gbit/s, MTU 9000" 1gbit 9000
row "10 Gbit/s, MTU 1500" 10gbit 1500
