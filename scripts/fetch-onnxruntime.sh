#!/usr/bin/env bash
# Puts ONNX Runtime's CPU library into .runtime/ (git-ignored), from the wheel on the Python package index whose hash is
# pinned below. The wheel is used as an archive: the Python version it was built for does not matter. Linux x86-64 and
# aarch64; elsewhere set `compute.onnxruntime` (or ORT_DYLIB_PATH) to a library of version 1.24 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.31.1
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64)  arch=x86_64;  sha256=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536 ;;
  Linux-aarch64) arch=aarch64; sha256=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc ;;
  *) echo "no pinned ONNX Runtime for $(uname -s) $(uname -m): install version 1.24 or newer and set ORT_DYLIB_PATH to it" >&2; exit 1 ;;
esac
library=.runtime/libonnxruntime.so
stamp=.runtime/version
[ -f "$library" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version $sha256" ] && exit 0

command -v python3 >/dev/null || { echo "python3 is needed to fetch ONNX Runtime" >&2; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || { echo "pip is needed to fetch ONNX Runtime (Debian: apt install python3-pip)" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "fetching ONNX Runtime $version for $arch (about 25 MB)"
echo "onnxruntime==$version --hash=sha256:$sha256" >"$folder/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
  --implementation cp --python-version 3.12 --platform "manylinux_2_27_$arch" --platform "manylinux_2_28_$arch" \
  --dest "$folder" --requirement "$folder/requirements.txt"
mkdir -p .runtime
python3 - "$folder" "$library" <<'PY'
import pathlib, shutil, sys, zipfile
folder, library = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        target = None
        if "/capi/libonnxruntime.so." in name:
            target = library
        elif name in ("onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"):
            target = library.parent / f"onnxruntime-{pathlib.Path(name).name}"
        if target:
            with wheel.open(name) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out)
PY
[ -f "$library" ] || { echo "the wheel held no libonnxruntime.so: please report" >&2; exit 1; }
echo "$version $sha256" >"$stamp"
