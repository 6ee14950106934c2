#!/usr/bin/env bash
# Packs what is built into a wheel: the program and its files (scripts/stage.sh) with the Python package. Nothing is compiled.
#
#   scripts/make-wheel.sh [PROGRAM [FOLDER]]      default: target/release/haltere, into dist/
#
# auditwheel says which Linux systems the program runs on (by the versions of glibc and libstdc++ that it was linked with: those of the
# machine it was built on). maturin can write such a wheel too, but only of a program that it compiles itself: a second time, under another
# profile, and without the features that naming a bench turns on.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-target/release/haltere} out=$(realpath -m "${2:-dist}") python=$PWD/.venv/bin/python
bytes_max=40000000

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
scripts/stage.sh "$program" "$folder/prefix"
pack() { # into folder $1
  (cd clients/python && HALTERE_PREFIX=$folder/prefix "$python" -m hatchling build -t wheel -d "$1") >"$folder/log" 2>&1 \
    || { cat "$folder/log" >&2; exit 1; }
}
pack "$folder/plain"
tag=$("$python" -m auditwheel show "$folder"/plain/*.whl 2>/dev/null | tr '\n' ' ' | sed -n 's/.*constrains the platform tag to "\([a-z0-9_]*\)".*/\1/p')
case "$tag" in
  manylinux_*) ;;
  *) "$python" -m auditwheel show "$folder"/plain/*.whl >&2; echo "auditwheel finds no manylinux tag for $program" >&2; exit 1 ;;
esac
export HALTERE_PLATFORM=$tag
pack "$out"
wheel=$(ls "$out"/haltere-*-"$tag".whl)
bytes=$(stat -c %s "$wheel")
echo "$wheel: $bytes bytes"
if [ "$bytes" -gt "$bytes_max" ]; then
  echo "it has more than $bytes_max bytes" >&2
  exit 1
fi
