#!/usr/bin/env bash
# The monitor's page is tested in a real browser. Takes the one that is there, else Debian's package where this user may install it;
# never fails: without a browser that one test says that it was skipped, and fails only where CI is set.
set -euo pipefail

for name in "${HALTERE_CHROMIUM:-chromium}" chromium-browser google-chrome google-chrome-stable; do
  command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null && exit 0
fi
echo "no chromium: the test of the monitor's page will be skipped (Debian: apt-get install chromium)" >&2
