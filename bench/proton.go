package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// protonSource is the sink in C; it is compiled when it is to be measured.
//
//go:embed proton/sink.c
var protonSource []byte

// errNoProton is why there are no figures of Qpid Proton C.
var errNoProton = errors.New("cc, pkg-config or Qpid Proton C is not installed (Debian: apt-get install gcc pkgconf libqpid-proton11-dev)")

// protonAddress is where devices send; the sink takes any.
const protonAddress = "sink"

// startProton compiles and starts the sink.
func (b *bench) startProton(ctx context.Context) (*peerProcess, error) {
	program, version, err := b.buildProton(ctx)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(b.address)
	if err != nil {
		return nil, err
	}
	p, err := start(program, address, filepath.Join(b.dir, certFile), filepath.Join(b.dir, keyFile))
	if err != nil {
		return nil, err
	}
	if err := p.awaitPort(address); err != nil {
		p.stop()
		return nil, err
	}
	b.report.Environment.peer("Qpid Proton C " + version)
	return &peerProcess{process: p, address: address}, nil
}

// buildProton compiles the sink with the installed library, and returns the program and the library's version. It returns errNoProton
// without the compiler or the library.
func (b *bench) buildProton(ctx context.Context) (program, version string, err error) {
	const library = "libqpid-proton"
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return "", "", errNoProton
	}
	flags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "--libs", library).Output()
	if err != nil {
		return "", "", errNoProton
	}
	text, err := exec.CommandContext(ctx, "pkg-config", "--modversion", library).Output()
	if err != nil {
		return "", "", errNoProton
	}
	source := filepath.Join(b.dir, "sink.c")
	if err := os.WriteFile(source, protonSource, 0o600); err != nil {
		return "", "", err
	}
	program = filepath.Join(b.dir, "sink")
	args := append([]string{"-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source}, strings.Fields(string(flags))...)
	if text, err := exec.CommandContext(ctx, compiler, args...).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("compile the sink: %w: %s", err, text)
	}
	return program, strings.TrimSpace(string(text)), nil
}
