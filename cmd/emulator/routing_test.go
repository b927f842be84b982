package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRoutingIsShownSetAndTried(t *testing.T) {
	s := newShell(t)
	if text := s.ok("routing", "show"); !strings.Contains(text, `"routes": []`) {
		t.Errorf("show: %s", text)
	}
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "routing.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const routing = `
routing:
  endpoints: {eventHubs: [{name: alerts}]}
  routes:
    - {name: hot, source: DeviceMessages, condition: $body.temperature > 30 AND level = 'x', endpointNames: [alerts]}
`
	if text := s.ok("routing", "set", file("devices: [{id: other}]"+routing)); !strings.Contains(text, `"name": "hot"`) {
		t.Errorf("set: %s", text)
	}
	if text := s.ok("routing", "test", "--body", `{"temperature":31}`, "--property", "level=x"); !strings.Contains(text, `"alerts"`) {
		t.Errorf("test: %s", text)
	}
	if text := s.ok("routing", "test", "--property", "level=x"); !strings.Contains(text, `"fallback": true`) {
		t.Errorf("test: %s", text)
	}
	for condition, want := range map[string]string{"level = 'x'": "true", "level = 'y'": "false", "other = 'x'": "undefined"} {
		if text := s.ok("routing", "test", "--condition", condition, "--property", "level=x"); text != want+"\n" {
			t.Errorf("%s: %q", condition, text)
		}
	}
	if text := s.ok("routing", "set", file(`{"routes":[]}`)); strings.Contains(text, "alerts") {
		t.Errorf("set: %s", text)
	}
	s.fails(exitFailed, "line 1, column 8: ", "routing", "test", "--condition", "level =")
	s.fails(exitFailed, "routes[0] (r).condition: line 1, column 4", "routing", "set", file("routes: [{name: r, source: DeviceMessages, condition: 'a =', endpointNames: [events]}]"))
	s.fails(exitUsage, "rotues", "routing", "set", file("rotues: []"))
	s.fails(exitUsage, "no such file", "routing", "set", "missing.yaml")
}
