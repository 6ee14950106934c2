#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can show, in one call of under ten minutes (after the build):
#
#   benches/gpu.sh            conformance on the device, latency, rate, floor, idle slow-down, one training step
#   benches/gpu.sh --full     20,000 frames also at 30 Hz, which alone takes eleven minutes
#   benches/gpu.sh --no-training   without the training step, whose build takes long
#
# Needs: a driver of version 580 or newer, a Rust toolchain, a C++ compiler, python3 with pip. Fetches the GPU libraries
# (scripts/fetch-onnxruntime-gpu.sh). Prints a table and writes it to benches/results/YYYY-MM-<gpu>.md. What is not there
# (compute-sanitizer, PyTorch) is skipped, with a line that says so. Comparing embeddings needs numpy. Until such a file is
# there, haltere has not run on a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

paced=4500
[ "${1:-}" = --full ] && paced=20000

command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 || {
  echo "benches/gpu.sh cannot run here: there is no NVIDIA GPU, or no driver (nvidia-smi does not answer)." >&2
  echo "What a machine without one can check, \`make test\` checks: the kernels compile, and do on the CPU what the oracle does." >&2
  exit 1
}
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1)
[ "${capability%%.*}" -gt 7 ] || [ "$capability" = 7.5 ] || { echo "compute capability $capability: 7.5 or newer is needed" >&2; exit 1; }

scripts/fetch-onnxruntime-gpu.sh
scripts/fetch-onnxruntime.sh
echo "building (the first time this takes long; what follows takes under ten minutes)"
cargo build --release --locked --bin haltere --bench registration
cargo test --release --locked --test parts --no-run
torch=no
python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null && torch=yes
# Training on CUDA is built with an LLVM that burn fetches from GitHub.
training=no
if [ "${1:-}" != --no-training ]; then
  cargo bench --bench train_step --features train-cuda --target-dir target/train-cuda --no-run && training=yes
fi
haltere=target/release/haltere
export ORT_DYLIB_PATH=$PWD/.runtime-gpu/libonnxruntime.so

name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
results=benches/results/$(date +%Y-%m)-$(echo "$name" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-').md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  echo "# On a GPU: $name"
  echo
  echo "$(date +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(uname -sr)"
  echo
  echo '```text'
  nvidia-smi --query-gpu=index,name,driver_version,compute_cap,clocks.sm,clocks.max.sm,power.draw,persistence_mode --format=csv
  lscpu | grep "Model name" || true
  echo '```'
} >"$results"
say() { echo "$*" | tee -a "$results"; }
section() { say; say "## $*"; say; }

section "What \`haltere check\` says"
"$haltere" model init --name bench --out "$work" --input 1x128x128 --channels 1 --seed 1 >/dev/null
cat >"$work/gpu.toml" <<TOML
model = "$work/bench.toml"
[compute]
device = "cuda"
TOML
{ echo '```text'; "$haltere" check --config "$work/gpu.toml" 2>&1 || true; echo '```'; } | tee -a "$results"

section "Conformance: the device against the CPU"
if HALTERE_NEEDS_CUDA=1 cargo test --release --locked --test parts -- --nocapture --test-threads 1 the_first_cuda_device \
  >"$work/conformance.txt" 2>&1; then
  verdict=passed
else
  verdict=FAILED
fi
{ echo '```text'; grep -v "^warning\|^ *Compiling\|^ *Running\|^$" "$work/conformance.txt" | tail -60; echo '```'; } | tee -a "$results"
say "Conformance $verdict."

section "Embeddings of one movie: CPU, GPU, GPU again, GPU with one graph"
python3 benches/first_contact/movie.py "$work/movie.raw"
for how in "cpu --set compute.device=cpu" "gpu" "again" "graph --set compute.encoder_graph=true"; do
  read -r name options <<<"$how"
  # shellcheck disable=SC2086 # options are words
  "$haltere" embed "$work/movie.raw" --raw uint16:512x512 --rate 30 --config "$work/gpu.toml" --out "$work/$name.npy" --csv "$work/$name.csv" $options \
    >"$work/$name.txt" 2>&1 || say "$name FAILED: $(tail -1 "$work/$name.txt")"
done
same=yes
python3 benches/first_contact/same.py "$work" >"$work/same.txt" 2>&1 || same=NO
{ echo '```text'; cat "$work/same.txt"; echo '```'; } | tee -a "$results"
say "The same: $same."

section "compute-sanitizer"
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
if [ -n "$sanitizer" ]; then
  # The program that the conformance run above named.
  test_binary=$(sed -n 's/.*Running .*(\(.*\/parts-[0-9a-f]*\))$/\1/p' "$work/conformance.txt" | tail -1)
  for tool in memcheck racecheck; do
    timeout 120 "$sanitizer" --tool "$tool" --error-exitcode 9 "$test_binary" --test-threads 1 conformance::the_same_frames_give >"$work/$tool.txt" 2>&1 \
      && say "$tool: clean" || say "$tool: $(tail -1 "$work/$tool.txt")"
  done
else
  say "Not there: skipped (it comes with the CUDA toolkit)."
fi

section "Latency and rate, 512×512 uint16"
for setting in "2 false" "2 true" "off false"; do
  read -r pulse graph <<<"$setting"
  say
  say "### \`compute.pulse_ms\` = $pulse, \`compute.encoder_graph\` = $graph"
  # Power is looked at from outside while the paced load runs.
  nvidia-smi --query-gpu=power.draw,clocks.sm --format=csv,noheader,nounits -l 1 >"$work/power.csv" 2>/dev/null &
  watcher=$!
  count=20000; slow=$paced
  [ "$setting" = "2 false" ] || { count=3000; slow=1500; }
  "$haltere" bench device --config "$work/gpu.toml" --set "compute.pulse_ms=$pulse" \
    --set "compute.encoder_graph=$graph" --frames "$count" --hz 30 --paced-frames "$slow" \
    2>&1 | tee -a "$results" || say "FAILED"
  kill "$watcher" 2>/dev/null || true
  say
  say "$(awk -F', ' '{p += $1; c += $2; n++} END {if (n) printf "Mean of the whole run: %.0f W, %.0f MHz (%d looks).", p / n, c / n, n}' "$work/power.csv")"
done
say
say "The same on the CPU of this machine:"
ORT_DYLIB_PATH=$PWD/.runtime/libonnxruntime.so "$haltere" bench device --config "$work/gpu.toml" --set compute.device=cpu --frames 2000 \
  --paced-frames 300 2>&1 | tee -a "$results" || say "FAILED"

section "The whole loop over tcp"
"$haltere" bench --config "$work/gpu.toml" --frames 2000 2>&1 | tee -a "$results" || say "FAILED"

section "A training step"
if [ "$training" = no ]; then
  say "Not built: not asked for (\`--no-training\`), or the build failed (it fetches an LLVM from GitHub)."
else
  say "Five steps on the GPU beside five on the CPU (the losses must agree):"
  step=$(ls -t target/train-cuda/release/deps/train_step-* | grep -v '\.d$' | head -1)
  { echo '```text'; if "$step" 2>&1 | tail -5; then echo agree; else echo DISAGREE; fi; echo '```'; } | tee -a "$results"
  if [ "$torch" = yes ]; then
    python3 benches/train_step.py --device cuda --rounds 2 --steps 100 2>&1 | tee -a "$results" || say "Slower than PyTorch, or FAILED."
  else
    say "No PyTorch that sees the GPU: the comparison is skipped."
  fi
fi
echo
echo "written: $results"
[ "$verdict" = passed ] && [ "$same" = yes ]
