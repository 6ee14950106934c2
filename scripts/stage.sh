#!/usr/bin/env bash
# Lays out what is installed below a prefix: bin/haltere (stripped), and in share/ the shipped model, config/, licences, a list of the crates in
# it (SBOM), manual pages and completions. Wheel, Debian package and archive are made of it. Nothing is compiled.
#
#   scripts/stage.sh PROGRAM PREFIX
set -euo pipefail
program=$(realpath "$1") prefix=$(realpath -m "$2")
cd "$(dirname "$0")/.."
own=$prefix/share/haltere
mkdir -p "$prefix/bin" "$own/models" "$prefix"/share/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
strip -o "$prefix/bin/haltere" "$program"
if grep -qaF "$PWD/" "$prefix/bin/haltere"; then
  echo "$program holds the path of this checkout ($PWD): it must not go to other machines" >&2
  exit 1
fi
cp models/fly.toml models/fly.onnx "$own/models/"
cp -r config LICENSE-APACHE LICENSE-MIT "$own/"
scripts/sbom.py >"$own/sbom.cdx.json"
"$program" man "$prefix/share/man/man1"
"$program" completions bash >"$prefix/share/bash-completion/completions/haltere"
"$program" completions zsh >"$prefix/share/zsh/site-functions/_haltere"
"$program" completions fish >"$prefix/share/fish/vendor_completions.d/haltere.fish"
