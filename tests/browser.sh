#!/bin/sh
# Installs Debian's Chromium for tests/live/test_page_browser.py where it is missing and that is possible.
# Without it those tests are skipped, so this never fails.
set -u

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no Chromium, and no way to install it here: the browser's tests will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null; then
    echo "Chromium could not be installed: the browser's tests will be skipped" >&2
fi
exit 0
