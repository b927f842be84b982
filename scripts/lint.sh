#!/bin/sh
# Runs golangci-lint of the pinned version, building it from source at its first use: usage lint.sh VERSION
set -eu
cd "$(dirname "$0")/.."
version=$1
tools=${IOLITE_TOOLS:-$(go env GOPATH)/iolite-tools}/golangci-lint-$version
unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
	printf 'gofmt would change:\n%s\n' "$unformatted" >&2
	exit 1
fi
if [ ! -x "$tools/golangci-lint" ]; then
	echo "building golangci-lint $version, once"
	GOBIN=$tools GOFLAGS='' go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
fi
"$tools/golangci-lint" run ./...
