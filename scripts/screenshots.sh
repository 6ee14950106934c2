#!/bin/sh
# The pictures in docs/monitor.md, from a live run: simulated flies, daemons, the monitor, and a browser without a window.
#   scripts/screenshots.sh [FOLDER]      default: docs
set -eu
cd "$(dirname "$0")/.."
folder=$(realpath "${1:-docs}")
HALTERE_SCREENSHOTS="$folder" cargo test --release --locked --test listeners page::the_pictures_of_the_documentation -- --ignored
ls -l "$folder"/monitor*.png
