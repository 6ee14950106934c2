#!/usr/bin/env bash
# Puts ONNX Runtime with its CUDA provider, and the CUDA libraries that it needs, into .runtime-gpu/ (git-ignored), from wheels on
# the Python package index whose hashes are pinned below. Needs no GPU and no CUDA toolkit; a rig needs an NVIDIA driver of
# version 580 or newer beside it. Some 2 GB are fetched. Linux x86-64 only; elsewhere set `compute.onnxruntime` to a library with
# the CUDA provider. By fetching them you accept NVIDIA's licences, which lie beside the libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

# All of CUDA 13.0 or made for it, so that a driver that is good for haltere's own kernels is good for these. The provider of 1.31.1 is
# linked with CUDA runtime, cuBLAS and cuRAND. It looks for cuDNN at the first convolution, and refuses those of a model without it; cuDNN
# in turn compiles some of its kernels by NVRTC. It looks for cuFFT at the first Fourier transform, which no model of haltere's has.
pinned="
onnxruntime-gpu==1.31.1 --hash=sha256:e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cublas==13.1.0.3 --hash=sha256:ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
nvidia-cuda-nvrtc==13.0.88 --hash=sha256:ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
nvidia-curand==10.4.0.35 --hash=sha256:1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc
nvidia-cudnn-cu13==9.15.1.9 --hash=sha256:ebc9a647918df0d7298d67cfaf41579fd4c78ead9aba246f5ad9414d61b9ec4c
"
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || {
  echo "no pinned GPU libraries for $(uname -s) $(uname -m): set compute.onnxruntime to an ONNX Runtime with the CUDA provider" >&2
  exit 1
}
folder=.runtime-gpu
stamp=$folder/version
wanted=$(echo "$pinned" | sha256sum | cut -c1-64)
[ -f "$folder/libonnxruntime.so" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

command -v python3 >/dev/null || { echo "python3 is needed to fetch the GPU libraries" >&2; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || { echo "pip is needed to fetch the GPU libraries (Debian: apt install python3-pip)" >&2; exit 1; }
free=$(df --output=avail -k . | tail -1)
[ "$free" -gt 6000000 ] || { echo "6 GB of free disk are needed here, $((free / 1000000)) GB are free" >&2; exit 1; }
mkdir -p "$folder"
download=$(mktemp -d "$folder/download.XXXXXX")
trap 'rm -rf "$download"' EXIT
echo "fetching ONNX Runtime with CUDA, cuBLAS, cuDNN and others (some 2 GB)"
echo "$pinned" >"$download/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
  --implementation cp --python-version 3.11 --abi cp311 --abi none \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \
  --platform manylinux2010_x86_64 --dest "$download" --requirement "$download/requirements.txt"
python3 - "$download" "$folder" <<'PY'
import pathlib, shutil, sys, zipfile

download, folder = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(download.glob("*.whl")):
    package = wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = pathlib.Path(name).name
            if ".so" in base and ("/capi/lib" in name or "/lib/" in name) and ".alt." not in base:
                # One of the two names of the main library; its version stands in the stamp.
                target = folder / ("libonnxruntime.so" if base.startswith("libonnxruntime.so.") else base)
            elif base.lower() in ("license", "license.txt", "thirdpartynotices.txt"):
                target = folder / f"{package}-{base}"
            else:
                continue
            with archive.open(name) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out)
    wheel.unlink()
# Other providers that the wheel brings need what is not here.
for path in folder.glob("libonnxruntime_providers_tensorrt*"):
    path.unlink()
PY
for library in libonnxruntime.so libonnxruntime_providers_cuda.so libonnxruntime_providers_shared.so libcudart.so.13 libcublas.so.13 \
  libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13 libcudnn.so.9; do
  [ -f "$folder/$library" ] || { echo "the wheels held no $library: please report" >&2; exit 1; }
done
echo "$wanted" >"$stamp"
echo "the GPU libraries are in $folder/: \`haltere check\` says whether they are used"
