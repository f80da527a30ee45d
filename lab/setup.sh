#!/bin/sh
# Makes the virtual environment .venv, or brings it up to date; for the Makefile, which sees to it that only one
# runs at a time. PYTHON names the Python to use.
set -eu
python=${PYTHON:-python3}
stamp=.venv/installed

# Somebody else may have done it while we waited for our turn.
if [ -x .venv/bin/python ] && [ -n "$(find "$stamp" -newer setup.cfg -newer pyproject.toml -newer "$0" 2>/dev/null)" ]; then
    exit 0
fi

if ! command -v "$python" >/dev/null; then
    echo "There is no $python here. Install Python 3.11 or later (Debian: apt-get install python3-venv)." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$python" --version) is too old: Cordboard needs Python 3.11 or later. Name one: make PYTHON=python3.12" >&2
    exit 1
fi
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian keeps this in a package of its own.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "Installing python3-venv, without which there is no virtual environment." >&2
            { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv; } \
                >var/apt.log 2>&1 || { tail -n 20 var/apt.log >&2; exit 1; }
        else
            echo "This Python lacks venv and ensurepip. Install them (Debian: apt-get install python3-venv)." >&2
            exit 1
        fi
    fi
    echo "Making the virtual environment .venv" >&2
    "$python" -m venv --clear .venv
fi
echo "Installing Cordboard and its tools into .venv" >&2
.venv/bin/python -m pip install -qq --disable-pip-version-check --root-user-action=ignore -e '.[dev]'
touch "$stamp"
