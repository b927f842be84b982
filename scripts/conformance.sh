#!/bin/sh
# Runs the conformance suites, side by side: published SDKs and tools against the command in IOLITE_BIN, each suite with a hub of its
# own on the documented ports of another loopback address (127.0.0.2, .3, ...). A missing tool skips its suite loudly; with CI=true it fails.
set -u
cd "$(dirname "$0")/../conformance"
: "${IOLITE_BIN:?path of the emulator command}"
export IOLITE_BIN
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=''
skipped=''

# have SUITE TOOL...: whether every tool of a suite is there.
have() {
	suite=$1
	shift
	for tool in "$@"; do
		command -v "$tool" >/dev/null 2>&1 && continue
		if [ "${CI:-}" = true ]; then
			echo "FAILED  $suite: $tool is missing, and CI must not skip"
			failed="$failed $suite"
		else
			echo "SKIPPED $suite: $tool is missing on this machine"
			skipped="$skipped $suite"
		fi
		return 1
	done
}

# start SUITE: runs SUITE/run in the background.
started=''
start() {
	("./$1/run" >"$logs/$1.log" 2>&1; echo $? >"$logs/$1.status") &
	started="$started $1"
}

have go go && start go
have hostile go && start hostile
have egress go && start egress
have node node npm && start node
have python python3 && start python
have java java mvn && start java
have packaging go setcap && start packaging
have solution node npm && start solution
have cli mosquitto_pub mosquitto_sub curl openssl && start cli
wait
for suite in $started; do
	printf '\n===== conformance/%s\n' "$suite"
	cat "$logs/$suite.log"
	[ "$(cat "$logs/$suite.status")" = 0 ] || failed="$failed $suite"
done
echo
[ -z "$skipped" ] || echo "SKIPPED suites:$skipped (install the tools named above to run them)"
if [ -n "$failed" ]; then
	echo "FAILED suites:$failed"
	exit 1
fi
echo "conformance passed:$started"
