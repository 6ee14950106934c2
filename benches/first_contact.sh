#!/usr/bin/env bash
# First contact with a machine with an H200 that has neither a Rust toolchain nor a network, for a short time: nothing is built or fetched
# there. `benches/gpu.sh` does the same and more where things can be built.
#
#   benches/first_contact.sh pack       where things are built; needs no GPU: makes .carry/, to be taken along with the working tree
#   benches/first_contact.sh smoke      under 4 minutes: what is there, conformance, CPU = GPU, first latencies
#   benches/first_contact.sh numbers    under 9 minutes: the table of latencies, the time of each kernel, sanitizer
#   benches/first_contact.sh faults     under 6 minutes: swap under load, no memory
#   benches/first_contact.sh rehearse   what of this needs no GPU, on the CPU, within seconds (`make test` runs it)
#
# The machine needs a driver of version 580 or newer, and a PyTorch with CUDA 13, whose libraries ONNX Runtime's provider uses. Results are
# written to $OUT. When conformance or the comparison of embeddings fails, nothing else is worth the device's time: `smoke` ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
carry=${CARRY:-$PWD/.carry} there=${THERE:-$PWD/.gpu-there} OUT=${OUT:-$PWD/.gpu-there/out}
haltere=$there/haltere python=${PYTHON:-python3}
mib_max=60
say() { echo "== $* ($(date +%T))"; }

# A program or library, stripped and packed.
packed() { # FILE NAME [LEVEL]
  cp "$1" "$carry/$2" && chmod u+w "$carry/$2"
  strip --strip-unneeded "$carry/$2" 2>/dev/null || true
  "$python" - "$carry/$2" "${3:-3}" <<'PY'
import lzma, os, shutil, sys
path, level = sys.argv[1], int(sys.argv[2])
with open(path, "rb") as source, lzma.open(path + ".xz", "wb", preset=level) as out:
    shutil.copyfileobj(source, out, 1 << 22)
os.remove(path)
PY
}

pack() {
  make build
  cargo test --release --locked --test parts --no-run
  rm -rf "$carry" && mkdir -p "$carry"
  local work
  work=$(mktemp -d)
  packed target/release/haltere haltere
  # shellcheck disable=SC2012 # the newest; cargo names it by letters and digits
  packed "$(ls -t target/release/deps/parts-* | grep -v '\.d$' | head -1)" parts
  grep '^onnxruntime-gpu==' scripts/fetch-onnxruntime-gpu.sh >"$work/requirements.txt"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --implementation cp \
    --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64 --dest "$work" --requirement "$work/requirements.txt"
  "$python" -m pip install --quiet --disable-pip-version-check --target "$work/python" zstandard==0.25.0
  "$python" - "$work" <<'PY'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        base = pathlib.Path(name).name
        if "/capi/" in name and base.startswith("libonnxruntime") and "tensorrt" not in base:
            (work / ("libonnxruntime.so" if base.startswith("libonnxruntime.so") else base)).write_bytes(wheel.read(name))
PY
  PYTHONPATH=$work/python "$python" benches/first_contact/slice_fatbin.py "$work/libonnxruntime_providers_cuda.so" "$work/sliced.so"
  packed "$work/sliced.so" libonnxruntime_providers_cuda.so
  packed "$work/libonnxruntime.so" libonnxruntime.so
  packed "$work/libonnxruntime_providers_shared.so" libonnxruntime_providers_shared.so
  rm -rf "$work"
  weigh
}

# How much there is to take along.
weigh() {
  local tree packed
  tree=$(git ls-files -z | xargs -0 du -cb | awk '$2 == "total" {sum += $1} END {print sum}')
  packed=$(du -sb "$carry" | cut -f1)
  echo "packed: $((packed >> 20)) MiB, with the tree $(((tree + packed) >> 20)) of $mib_max MiB"
  [ $(((tree + packed) >> 20)) -le $mib_max ]
}

unpack() {
  mkdir -p "$there/lib" "$OUT"
  "$python" - "$carry" "$there" <<'PY'
import lzma, pathlib, shutil, site, sys
carry, there = map(pathlib.Path, sys.argv[1:])
for packed in carry.glob("*.xz"):
    target = there / ("lib" if packed.stem.startswith("lib") else "") / packed.stem
    with lzma.open(packed) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 22)
    target.chmod(0o755)
# haltere looks beside its ONNX Runtime for NVIDIA's libraries: those of PyTorch, by link.
for folder in (pathlib.Path(place) / "nvidia" for place in site.getsitepackages()):
    for library in folder.glob("*/lib/*.so*"):
        link = there / "lib" / library.name
        if not link.exists():
            link.symlink_to(library)
PY
  export HALTERE_NEEDS_CUDA=1
  if [ -e "$there/lib/libonnxruntime.so" ]; then export ORT_DYLIB_PATH=$there/lib/libonnxruntime.so; fi
  export LD_LIBRARY_PATH=$there/lib:${LD_LIBRARY_PATH:-}
  "$haltere" model init --force --name bench --out "$there" --input 1x128x128 --channels 0 --seed 1 >"$there/init.txt"
  printf 'model = "%s/bench.toml"\n[compute]\ndevice = "%s"\n' "$there" "${DEVICE:-cuda}" >"$there/gpu.toml"
}

inventory() {
  nvidia-smi
  nvidia-smi --query-gpu=name,driver_version,pcie.link.gen.current,pcie.link.width.current,clocks.sm,clocks.max.sm,power.draw --format=csv
  lscpu | grep -E "Model name|^CPU\(s\)|NUMA node0"
  uname -r
  ldd "$there/lib/libonnxruntime_providers_cuda.so" | grep "not found" && echo "THE PROVIDER LACKS A LIBRARY"
  command -v nvcc ncu compute-sanitizer || true
}

# Embeddings of one movie: CPU, GPU twice, GPU with one graph; through the daemon's own threads.
same() { # FRAMES SIDE
  "$python" benches/first_contact/movie.py "$there/movie.raw" "$1" "$2"
  local name options
  for how in "cpu --set compute.device=cpu" "gpu" "again" "graph --set compute.encoder_graph=true"; do
    read -r name options <<<"$how"
    # shellcheck disable=SC2086 # options are words
    "$haltere" embed "$there/movie.raw" --raw "uint16:$2x$2" --rate 30 --config "$there/gpu.toml" --out "$there/$name.npy" --csv "$there/$name.csv" $options \
      >"$there/$name.txt" 2>&1 || { echo "$name FAILED"; tail -3 "$there/$name.txt"; }
  done
  "$python" benches/first_contact/same.py "$there"
}

device() { # PULSE GRAPH FRAMES PACED
  "$haltere" bench device --config "$there/gpu.toml" --set "compute.pulse_ms=$1" --set "compute.encoder_graph=$2" --frames "$3" --paced-frames "$4"
}

smoke() {
  unpack
  say inventory
  inventory || true
  say floor
  if nvcc -O3 -arch=sm_90 -cudart static benches/first_contact/floor.cu -o "$there/floor"; then timeout 60 "$there/floor" | tee "$OUT/floor.txt"; fi
  say check
  timeout 60 "$haltere" check --config "$there/gpu.toml" || true
  say conformance
  timeout 100 "$there/parts" --nocapture --test-threads 1 the_first_cuda_device 2>&1 | tee "$OUT/conformance.txt" | tail -60
  say "embeddings"
  same 700 512 2>&1 | tee "$OUT/same.txt"
  for graph in false true; do
    say "device, encoder_graph = $graph"
    device 2 $graph 1000 200 2>&1 | tee "$OUT/first-$graph.txt"
  done
}

numbers() {
  unpack
  for setting in "2 true 4500" "2 false 1200" "off true 900" "10 true 900"; do
    read -r pulse graph slow <<<"$setting"
    say "pulse $pulse, graph $graph"
    device "$pulse" "$graph" 20000 "$slow" 2>&1 | tee -a "$OUT/device.txt"
  done
  say "the whole loop, graph"
  timeout 100 "$haltere" bench --config "$there/gpu.toml" --set compute.encoder_graph=true --frames 1200 2>&1 | tee "$OUT/loop.txt"
  say sanitizer
  for tool in memcheck racecheck; do
    if timeout 80 compute-sanitizer --tool $tool --error-exitcode 9 "$there/parts" --test-threads 1 the_first_cuda_device >"$OUT/$tool.txt" 2>&1; then
      echo "$tool: clean"
    else
      echo "$tool: $(tail -1 "$OUT/$tool.txt")"
    fi
  done
}

faults() {
  unpack
  [ -e "$there/movie.raw" ] || "$python" benches/first_contact/movie.py "$there/movie.raw"
  "$haltere" model init --force --name other --out "$there" --input 1x128x128 --channels 0 --seed 2 >"$there/init.txt"
  for graph in false true; do
    say "swap under load, encoder_graph = $graph"
    "$haltere" run --config "$there/gpu.toml" --set "compute.encoder_graph=$graph" --once --report "$OUT/report-$graph.json" 2>"$OUT/run-$graph.log" &
    run=$!
    sleep 6
    "$haltere" play "$there/movie.raw" --raw uint16:512x512 --rate 100 --loop 6 >"$there/play.txt" 2>&1 &
    play=$!
    sleep 14
    "$haltere" control model "$there/other.toml"
    sleep 4
    "$haltere" control status
    wait $play || true
    "$haltere" control shutdown || kill $run
    wait $run && echo "run ended well" || echo "run ended with $?"
    tail -5 "$OUT/run-$graph.log"
  done
  say "no memory"
  "$python" - "$there/gpu.toml" "$haltere"<<'PY'
import subprocess, sys
import torch
free, _ = torch.cuda.mem_get_info()
kept = torch.empty(int(free - 300e6), dtype=torch.uint8, device="cuda")
print(subprocess.run([sys.argv[2], "check", "--config", sys.argv[1]], capture_output=True, text=True, timeout=60).stdout[-1500:])
PY
}

# On the CPU, in all roles: packing, unpacking, the model, the movie, the comparison, the bench. HALTERE is the program.
rehearse() {
  local work
  work=$(mktemp -d)
  carry=$work/carry there=$work/there OUT=$work/out haltere=$work/there/haltere DEVICE=cpu
  mkdir -p "$carry"
  packed "${HALTERE:-target/release/haltere}" haltere 0
  weigh
  unpack
  same 150 64
  device 2 false 20 20
  rm -rf "$work"
}

case ${1:-} in
  pack | smoke | numbers | faults | rehearse) "$1" ;;
  *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
