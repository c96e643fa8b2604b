#!/bin/sh
# Resolve setup.py's ranges into requirements/py3*.lock, one for each Python version named.
# Usage: scripts/lock.sh [--upgrade] 3.11 3.12 3.13   (after make setup, whose uv it uses)
set -eu
cd "$(dirname "$0")/.."
uv=.venv/tools/bin/uv
upgrade=
[ "${1:-}" != --upgrade ] || { upgrade=--upgrade; shift; }

export UV_CUSTOM_COMPILE_COMMAND="scripts/lock.sh"
for name in tools build; do
    "$uv" pip compile -q $upgrade --universal --python-version 3.11 --generate-hashes \
        "requirements/$name.in" -o "requirements/$name.lock"
done
for version in "$@"; do
    lock="requirements/py$(echo "$version" | tr -d .).lock"
    "$uv" pip compile -q $upgrade --generate-hashes --no-annotate \
        --extra pipeline --extra dev --overrides requirements/overrides.txt \
        --python-version "$version" --python-platform x86_64-manylinux_2_40 \
        --only-binary :all: --no-binary google-apitools --no-binary rouge-score \
        setup.py -o "$lock"
    echo "$lock: $(grep -cE '^[A-Za-z0-9][A-Za-z0-9._-]*==' "$lock") packages"
done
