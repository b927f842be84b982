#!/bin/sh
# Installs the pinned clients into .venv (once) and runs the suite; arguments go to pytest.
# PYTHON names the interpreter (3.9 to 3.12: uamqp publishes no wheel for newer ones),
# IOLITE_BIN the emulator to test; without it the harness builds one with `go build`.
set -eu
cd "$(dirname "$0")"

venv=.venv
stamp=$venv/requirements.txt
if ! cmp -s requirements.txt "$stamp"; then
	"${PYTHON:-python3}" -m venv --clear "$venv"
	"$venv/bin/pip" install --quiet --no-deps --only-binary uamqp -r requirements.txt
	cp requirements.txt "$stamp"
fi
exec "$venv/bin/python" -m pytest "$@"
