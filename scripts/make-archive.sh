#!/usr/bin/env bash
# Packs what is built into an archive for a folder of any machine with glibc and libstdc++ as new as here: the program and its files
# (scripts/stage.sh) with ONNX Runtime in lib/haltere, where the program looks for it. The same files give the same bytes. Nothing is compiled.
#
#   scripts/make-archive.sh [PROGRAM [FOLDER]]      default: target/release/haltere, into dist/
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-target/release/haltere} out=$(realpath -m "${2:-dist}") runtime=.runtime/libonnxruntime.so
[ -f "$runtime" ] || { echo "$runtime is missing: make setup" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=haltere-$version-linux-$(uname -m)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/$name
scripts/stage.sh "$program" "$root"
mkdir -p "$root/lib/haltere" "$out"
install -m 644 "$runtime" "$root/lib/haltere/"
cp .runtime/onnxruntime-LICENSE .runtime/onnxruntime-ThirdPartyNotices.txt "$root/share/haltere/"
cp README.md "$root/"
chmod -R u=rwX,go=rX "$root"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$folder" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >SHA256SUMS)
echo "$out/$name.tar.gz: $(stat -c %s "$out/$name.tar.gz") bytes"
