package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// selected is what a command line asked of serve, "" and nothing for another command.
func selected(c *kong.Context) (string, serveCmd) {
	s, _ := c.Selected().Target.Interface().(serveCmd)
	return c.Command(), s
}

func TestServeIsTheSameWithAndWithoutTheOtherCommands(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(config, []byte("partitions: 7\nhttp-poll: log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("IOLITE_RETAIN", "64")
	t.Setenv("IOLITE_HTTP_POLL", "off")
	for _, line := range []string{
		"", "serve", "--bind 127.0.0.9", "serve --mqtt-port 0 --amqp-port off --device a --device b,c", "serve --config " + config,
		"--config=" + config + " --partitions 9", "serve --auth=off --strict-ports --retention 48h --control off",
	} {
		args := strings.Fields(line)
		alone := parseServe(args)
		if alone == nil {
			t.Errorf("%q: not parsed as a line of serve", line)
			continue
		}
		whole, err := newParser(&cli{})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := whole.Parse(args)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		gotCommand, got := selected(alone)
		wantCommand, want := selected(parsed)
		if diff := cmp.Diff(want, got); diff != "" || gotCommand != wantCommand {
			t.Errorf("%q: %s, want %s (-want +got):\n%s", line, gotCommand, wantCommand, diff)
		}
		if got.Retain != 64 {
			t.Errorf("%q: IOLITE_RETAIN is not heard: %d", line, got.Retain)
		}
	}
}

// The whole grammar answers what is not a right line of serve: it knows the other commands, and the words of help and errors.
func TestOtherLinesAreLeftToTheWholeGrammar(t *testing.T) {
	for _, line := range []string{"--help", "-h", "serve --help", "serve --partitions 0", "serve --nonsense", "devices list", "fly", "--control 127.0.0.1:1 healthcheck", "version"} {
		if parseServe(strings.Fields(line)) != nil {
			t.Errorf("%q: taken for a line of serve", line)
		}
	}
	var help strings.Builder
	if status := run([]string{"serve", "--help"}, &help, io.Discard); status != exitOK || !strings.Contains(help.String(), "--http-poll-interval") {
		t.Errorf("status %d, %q", status, help.String())
	}
}
