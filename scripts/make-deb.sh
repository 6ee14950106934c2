#!/usr/bin/env bash
# Packs what is built into a Debian package: the program and its files (scripts/stage.sh), and ONNX Runtime in /usr/lib/haltere, because
# Debian has no package of it. It installs on the release it was built on and on newer ones. Nothing is compiled.
#
#   scripts/make-deb.sh [PROGRAM [FOLDER]]      default: target/release/haltere, into dist/
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-target/release/haltere} out=$(realpath -m "${2:-dist}") runtime=.runtime/libonnxruntime.so
command -v dpkg-shlibdeps >/dev/null || { echo "dpkg-shlibdeps is needed (Debian: apt install dpkg-dev)" >&2; exit 1; }
[ -f "$runtime" ] || { echo "$runtime is missing: make setup" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
arch=$(dpkg --print-architecture)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root
scripts/stage.sh "$program" "$root/usr"
gzip -9n "$root"/usr/share/man/man1/*.1
mkdir -p "$root/usr/lib/haltere" "$root/usr/share/doc/haltere" "$root/DEBIAN" "$folder/debian"
install -m 644 "$runtime" "$root/usr/lib/haltere/"
cp .runtime/onnxruntime-LICENSE .runtime/onnxruntime-ThirdPartyNotices.txt "$root/usr/share/doc/haltere/"
mv "$root"/usr/share/haltere/LICENSE-* "$root/usr/share/doc/haltere/"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
# The service of systemd, with the folder of its configurations.
mkdir -p "$root/usr/lib/systemd/system" "$root/etc/haltere"
mv "$root/usr/share/haltere/config/haltere@.service" "$root/usr/lib/systemd/system/"

# Which packages hold the libraries that program and runtime are linked with, from which version on.
echo "Source: haltere" >"$folder/debian/control"
needed=$(cd "$folder" && dpkg-shlibdeps --warnings=0 -O "$root/usr/bin/haltere" "$root/usr/lib/haltere/libonnxruntime.so" | sed -n 's/^shlibs:Depends=//p')
cat >"$root/DEBIAN/control" <<EOF
Package: haltere
Version: $version
Architecture: $arch
Maintainer: the authors of haltere
Depends: $needed
Section: science
Priority: optional
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Description: real-time decoding of two-photon imaging
 A daemon that receives frames from a microscope over ZeroMQ, corrects motion,
 computes dF/F, runs an ONNX encoder and publishes what the animal is doing.
EOF
chmod -R u=rwX,go=rX "$root"
mkdir -p "$out"
deb=$out/haltere_${version}_$arch.deb
dpkg-deb --root-owner-group -Zzstd --build "$root" "$deb" >/dev/null
echo "$deb: $(stat -c %s "$deb") bytes"
