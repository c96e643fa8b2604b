#!/bin/sh
# Build .venv, or leave it alone if it is up to date. All the work is in setup_env.py; this part
# only answers fast when there is nothing to do and finds a Python to run that file with.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
script="$root/scripts/setup_env.py"
venv="${LENGTHWISE_VENV:-$root/.venv}"

if [ -f "$venv/.complete" ] && "$venv/bin/python" -I -S "$script" --check 2>/dev/null; then
    exit 0
fi

refuse() {
    printf 'lengthwise set-up cannot go on: %s\n' "$1" >&2
    exit 2
}

[ "$(uname -s)" = Linux ] || refuse "this is $(uname -s); TFX's compiled packages exist for Linux
on x86-64 only. Use a Linux machine, virtual machine or container (Debian 12 or later)."

# A candidate counts only if it runs: a pyenv shim exists for versions that are not active.
supported='import sys; sys.exit(sys.version_info[:2] != (3, %s))'
for minor in $(ls "$root/requirements" | sed -n 's/^py3\([0-9]*\)\.lock$/\1/p' | sort -n); do
    for candidate in "${LENGTHWISE_PYTHON:-}" "python3.$minor" python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor."*/bin/python3; do
        [ -n "$candidate" ] || continue
        # shellcheck disable=SC2059
        if "$candidate" -I -c "$(printf "$supported" "$minor")" 2>/dev/null; then
            exec "$candidate" -I "$script" "$@"
        fi
        [ "$candidate" != "${LENGTHWISE_PYTHON:-}" ] || continue 2
    done
done

served=$(ls "$root/requirements" | sed -n 's/^py3\([0-9]*\)\.lock$/3.\1/p' | sort -V | paste -sd, -)
found=$(command -v python3 >/dev/null 2>&1 && python3 -V 2>&1 || echo "no python3 at all")
refuse "no Python of a served version ($served) was found; this machine has $found.
Install one (Debian 12: apt-get install python3; pyenv: pyenv install 3.11), or name one with
LENGTHWISE_PYTHON=/path/to/python3.11."
