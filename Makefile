# `make test` is the whole test suite, as CI runs it: unit tests with the race detector, lint, and the published SDKs against the
# real command. A tool that is missing skips its suite loudly on a laptop; with CI=true it fails.
GOLANGCI_VERSION := v2.15.0
BIN := $(CURDIR)/dist

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | expand -t 16

.PHONY: run
run: ## Start the hub on the documented ports
	go run ./cmd/emulator

.PHONY: build
build: ## Build dist/emulator
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/emulator ./cmd/emulator

.PHONY: test
test: unit lint conformance ## Everything: what CI runs

.PHONY: unit
unit: ## Unit tests with the race detector, leak checks, fuzz seeds, allocation budgets and a soak of 20 seconds
	go vet ./...
	go test -race ./...
	go -C bench vet ./...
	go -C bench test ./...

.PHONY: lint
lint: ## gofmt, golangci-lint with the house's import rules
	@scripts/lint.sh $(GOLANGCI_VERSION)

.PHONY: conformance
conformance: build ## The published SDKs against the real command
	@IOLITE_BIN=$(BIN)/emulator scripts/conformance.sh

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (default 60s) each
	@scripts/fuzz.sh

.PHONY: bench
bench: ## Speed and memory of the real process beside its peers, all parts; flags in BENCH, see bench/README.md
	cd bench && go run . $(BENCH)

.PHONY: bench-smoke
bench-smoke: ## The same at a small scale, about a minute: fails on errors only
	cd bench && go run . -smoke $(BENCH)

.PHONY: bench-go
bench-go: ## Go benchmarks of every package, with allocations
	go test -run '^$$' -bench . -benchmem ./...
	cd bench && go test -run '^$$' -bench . -benchmem .

.PHONY: image
image: ## Build the container image
	docker build -t iolite .
