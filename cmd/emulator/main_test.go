package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"emulator": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// Scripts see that a command failed; the status itself is looked at here.
func TestBadUsageIsStatus2(t *testing.T) {
	for _, line := range []string{
		"fly", "serve --mqtt-port http", "serve --http-poll sometimes", "serve --config nowhere.yaml",
		"serve --partitions 0", "serve --partitions 33", "serve --retain 0", "serve --retain 2000000", "serve --retention 23h", "serve --retention 169h", "serve --http-poll-interval 0s",
		"serve --http-poll-interval -1m",
	} {
		var stderr strings.Builder
		if status := run(strings.Fields(line), io.Discard, &stderr); status != exitUsage || stderr.Len() == 0 {
			t.Errorf("%s: status %d, %q", line, status, stderr.String())
		}
	}
}

func TestFailureIsStatus1(t *testing.T) {
	if status := run(strings.Fields("healthcheck --control 127.0.0.1:1"), io.Discard, io.Discard); status != exitFailed {
		t.Errorf("status %d", status)
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
	})
}
