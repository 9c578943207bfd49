#!/usr/bin/env bash
# Checks what is deployed: manifests, Dockerfile, compose file, NATS configuration. Part of the test command.
#
#   deploy/check.sh [--built] [--binaries DIR]
#
# --built          dashfleet-bootstrap must be there; without it, keys are simulated and two checks are left out
# --binaries DIR   where it is (default: target/debug)
#
# Its Python packages go into target/check-venv, once for each content of check/requirements.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "deploy/check.sh: $1" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is missing: install the packages python3 and python3-venv"

venv=target/check-venv
wanted=$(cat deploy/check/requirements.txt; python3 --version)
if [ ! -f "$venv/made-for" ] || [ "$(cat "$venv/made-for")" != "$wanted" ]; then
    rm -rf "$venv"
    mkdir -p target
    python3 -m venv "$venv" || fail "python3 -m venv failed: install the package python3-venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --requirement deploy/check/requirements.txt \
        || fail "the packages of deploy/check/requirements.txt could not be installed"
    printf '%s\n' "$wanted" >"$venv/made-for"
fi

export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=deploy
exec "$venv/bin/python" -m check "$@"
