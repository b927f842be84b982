package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/iolitetest"
	"github.com/iolite-emulator/iolite/store"
)

// shell runs commands against one emulator.
type shell struct {
	t *testing.T
	e *iolite.Emulator
}

// run runs a command and returns what it printed and its status.
func (s shell) run(args ...string) (stdout, stderr string, status int) {
	var out, err strings.Builder
	status = run(append(args, "--control", s.e.Info().Control), &out, &err)
	return out.String(), err.String(), status
}

// ok runs a command that must succeed.
func (s shell) ok(args ...string) string {
	s.t.Helper()
	out, err, status := s.run(args...)
	if status != exitOK {
		s.t.Fatalf("%v: status %d, %s", args, status, err)
	}
	return out
}

// fails runs a command that must fail with status, and words on standard error.
func (s shell) fails(status int, words string, args ...string) {
	s.t.Helper()
	_, err, got := s.run(args...)
	if got != status || !strings.Contains(err, words) {
		s.t.Errorf("%v: status %d, %q, want %d and %q", args, got, err, status, words)
	}
}

func newShell(t *testing.T) shell {
	return shell{t, iolitetest.Run(t, iolitetest.WithDevices("device1"))}
}

func TestModulesInDevices(t *testing.T) {
	s := newShell(t)
	if text := s.ok("devices", "create", "device1/m1"); !strings.Contains(text, ";DeviceId=device1;ModuleId=m1;SharedAccessKey=") {
		t.Errorf("connection string %q", text)
	}
	if text := s.ok("devices", "modules", "device1"); !strings.Contains(text, "device1/m1") {
		t.Errorf("modules: %q", text)
	}
	if text := s.ok("devices", "show", "device1/m1"); !strings.Contains(text, `"moduleId": "m1"`) {
		t.Errorf("show: %s", text)
	}
	if token := s.ok("devices", "token", "device1/m1"); !strings.Contains(token, "devices%2Fdevice1%2Fmodules%2Fm1") {
		t.Errorf("token %q", token)
	}
	s.ok("devices", "delete", "device1/m1")
	s.fails(exitFailed, "404", "devices", "show", "device1/m1")
	s.ok("devices", "show", "device1")
}

func TestTwinCommands(t *testing.T) {
	s := newShell(t)
	s.ok("devices", "create", "device1/m1")
	for _, id := range []string{"device1", "device1/m1"} {
		patched := s.ok("twin", "patch", id, `{"tags":{"floor":1},"properties":{"desired":{"interval":5}}}`)
		var twin struct {
			ETag       string
			Tags       struct{ Floor int }
			Properties struct{ Desired struct{ Interval int } }
		}
		if got := s.ok("twin", "get", id); got != patched || json.Unmarshal([]byte(got), &twin) != nil {
			t.Fatalf("%s: got %s, patched %s", id, got, patched)
		}
		if twin.Tags.Floor != 1 || twin.Properties.Desired.Interval != 5 {
			t.Errorf("%s: %+v", id, twin)
		}
		s.ok("twin", "patch", id, `{"tags":{"floor":2}}`, "--if-match", twin.ETag)
		s.fails(exitFailed, "412", "twin", "patch", id, `{"tags":{"floor":3}}`, "--if-match", twin.ETag)
	}
	s.fails(exitUsage, "no JSON", "twin", "patch", "device1", `{tags}`)
	s.fails(exitFailed, "ArgumentInvalid", "twin", "patch", "device1", `{"tags":{"a.b":1}}`)
	s.fails(exitFailed, "404", "twin", "get", "missing")
}

func TestInvoke(t *testing.T) {
	s := newShell(t)
	s.fails(exitFailed, "404103", "invoke", "device1", "reboot")
	key := store.Key{DeviceID: "device1"}
	p := auth.Principal{DeviceID: "device1", Rights: auth.DeviceConnect, Scope: "devices/device1", Method: auth.MethodSAS}
	device, err := s.e.Hub().OpenDevice(t.Context(), p, key, hub.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = device.SubscribeMethods(func(r hub.MethodRequest) bool {
		device.RespondMethod(r.ID, 201, []byte(`{"got":`+string(r.Payload)+`,"method":"`+r.Name+`"}`))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{`{"delay":5}`: `{"delay":5}`, `"text"`: `"text"`, "": "null"} {
		args := []string{"invoke", "device1", "reboot"}
		if payload != "" {
			args = append(args, payload)
		}
		var got struct {
			Status  int
			Payload struct {
				Got    json.RawMessage
				Method string
			}
		}
		if err := json.Unmarshal([]byte(s.ok(args...)), &got); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(strings.Fields(string(got.Payload.Got)), ""); got.Status != 201 || got.Payload.Method != "reboot" || text != want {
			t.Errorf("%s: %d %s %s", payload, got.Status, got.Payload.Method, text)
		}
	}
	s.fails(exitUsage, "no JSON", "invoke", "device1", "reboot", "{")
	s.fails(exitFailed, "400", "invoke", "device1", "reboot", "--timeout", "1s")
}

func TestQueryPrintsAllPages(t *testing.T) {
	s := newShell(t)
	const n = 250
	for i := range n {
		id := store.Identity{Key: store.Key{DeviceID: "d" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)}}
		if _, err := s.e.Hub().Admin().CreateIdentity(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(s.ok("query", "SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'd')")), "\n")
	if len(lines) != n+1 || !json.Valid([]byte(lines[0])) {
		t.Errorf("%d lines, the first %s", len(lines), lines[0])
	}
	if text := s.ok("query", "SELECT COUNT() AS n FROM devices"); text != `{"n":251}`+"\n" {
		t.Errorf("count: %q", text)
	}
	s.fails(exitFailed, "ArgumentInvalid", "query", "SELECT nonsense")
}
