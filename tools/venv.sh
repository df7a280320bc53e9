#!/bin/sh
# Make the virtual environment named by $1 with a Python that is new enough and really runs.
#
# "Really runs" matters: a pyenv shim called python3.13 stands on the PATH and fails where no version is selected, and
# Debian's python3 comes without `ensurepip`. So every candidate is asked to import what we need before it is believed.
set -eu
venv=$1
probe='import sys, venv, ensurepip, ssl, sqlite3; sys.exit(sys.version_info < (3, 12))'

works() { "$1" -c "$probe" >/dev/null 2>&1; }

# A finished environment stays, unless its Python has gone or is too old.
if works "$venv/bin/python"; then exit 0; fi

candidates() {
    [ -z "${PYTHON:-}" ] || echo "$PYTHON"
    printf '%s\n' python3 python3.13 python3.12 python3.14
    for root in "${PYENV_ROOT:-}" "${HOME:-/nonexistent}/.pyenv"; do
        for python in "$root"/versions/3.13*/bin/python3 "$root"/versions/3.12*/bin/python3; do
            [ ! -x "$python" ] || echo "$python"
        done
    done
    if command -v uv >/dev/null 2>&1; then uv python find '>=3.12' 2>/dev/null || true; fi
}

found=$(candidates | while read -r python; do
    if works "$python"; then
        echo "$python"
        break
    fi
done)

if [ -n "$found" ]; then
    "$found" -m venv --clear "$venv"
elif command -v uv >/dev/null 2>&1; then
    uv venv --clear --seed --python '>=3.12' "$venv" # uv fetches one
else
    have=$(python3 --version 2>/dev/null || echo 'no python3 at all')
    echo "usagetap: needs Python 3.12 or newer with its venv module; found $have." >&2
    echo "usagetap: get one from your system (Debian 13, Ubuntu 24.04: apt install python3 python3-venv; Fedora:" >&2
    echo "usagetap: dnf install python3.13; macOS: brew install python@3.13), with pyenv install 3.13, or install uv" >&2
    echo "usagetap: (it fetches one), then run make again. PYTHON=/path/to/python3 make … names one by hand." >&2
    exit 1
fi
