#!/usr/bin/env bash
# Puts the Python packages of the test suite into .venv/ (git-ignored). Tests call .venv/bin/python and nothing else of it.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v python3 >/dev/null || { echo "python3 is needed by the tests (Debian: apt install python3)" >&2; exit 1; }
rm -rf .venv
if python3 -m venv .venv >/dev/null 2>&1; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --requirement tests/requirements.txt
elif python3 -m pip --version >/dev/null 2>&1; then
  # Debian splits venv off; a folder and a launcher of the same name do as well.
  rm -rf .venv
  mkdir -p .venv/bin .venv/site
  python3 -m pip install --quiet --disable-pip-version-check --only-binary=:all: --target .venv/site \
    --requirement tests/requirements.txt
  cat >.venv/bin/python <<'SH'
#!/bin/sh
PYTHONPATH="$(cd "$(dirname "$0")/../site" && pwd)${PYTHONPATH:+:$PYTHONPATH}" exec python3 "$@"
SH
  chmod +x .venv/bin/python
else
  echo "neither venv nor pip is there: apt install python3-venv" >&2
  exit 1
fi
.venv/bin/python -c 'import auditwheel, hatchling, lz4, mkdocs, mypy, numpy, nwbinspector, onnx, onnxruntime, pyarrow, pylsl, pynwb, scipy, sklearn, zmq'
# What the wheel depends on, for the test that installs it: the same versions, from pip's cache.
grep -E '^(numpy|onnxruntime|pyzmq)==' tests/requirements.txt >.venv/wheels.txt
.venv/bin/python -m pip download --quiet --disable-pip-version-check --only-binary=:all: --dest .venv/wheels --requirement .venv/wheels.txt
touch .venv/ready
