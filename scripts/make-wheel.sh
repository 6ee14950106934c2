#!/usr/bin/env bash
# Packs what is built into a wheel: the stripped program, models/fly, config/ and the Python package. Nothing is compiled.
#
#   scripts/make-wheel.sh [PROGRAM [FOLDER]]      default: target/release/haltere, into dist/
#
# auditwheel says which Linux systems the program runs on (by the versions of glibc and libstdc++ that it was linked with: those of the
# machine it was built on). maturin would build the program itself, a second time and without the features that naming a bench turns on.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-target/release/haltere}") out=$(realpath -m "${2:-dist}") python=$PWD/.venv/bin/python
bytes_max=40000000

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
strip -o "$folder/haltere" "$program"
if grep -qaF "$PWD/" "$folder/haltere"; then
  echo "$program holds the path of this checkout ($PWD): it must not go to other machines" >&2
  exit 1
fi
pack() { # into folder $1
  (cd clients/python && HALTERE_PROGRAM="$folder/haltere" "$python" -m hatchling build -t wheel -d "$1" >/dev/null)
}
pack "$folder/plain"
tag=$("$python" -m auditwheel show "$folder"/plain/*.whl 2>/dev/null | tr '\n' ' ' | sed -n 's/.*constrains the platform tag to "\([a-z0-9_]*\)".*/\1/p')
case "$tag" in
  manylinux_*) ;;
  *) "$python" -m auditwheel show "$folder"/plain/*.whl >&2; echo "auditwheel finds no manylinux tag for $program" >&2; exit 1 ;;
esac
mkdir -p "$out"
HALTERE_PLATFORM=$tag pack "$out"
wheel=$(ls "$out"/haltere-*-"$tag".whl)
bytes=$(stat -c %s "$wheel")
echo "$wheel: $bytes bytes"
if [ "$bytes" -gt "$bytes_max" ]; then
  echo "it has more than $bytes_max bytes" >&2
  exit 1
fi
