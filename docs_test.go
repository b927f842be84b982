package iolite_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/iolitetest"
	"github.com/iolite-emulator/iolite/store"
)

var update = flag.Bool("update", false, "write docs/errors.md anew")

// TestErrorPageIsTheErrorTable keeps docs/errors.md what the code says.
func TestErrorPageIsTheErrorTable(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Errors

Every error of the hub is one row of this table, whichever door it leaves by. HTTPS answers with the status, the header ` + "`iothub-errorcode`" + ` and a JSON body; AMQP with the condition, the text and a tracking id;
MQTT 3.1.1 has no error reply: "refuse" is CONNACK return code 5, "close" ends the connection, "none" cannot happen there. Requests to twins alone are answered, on MQTT and AMQP: with the status, and code,
text and tracking id in a JSON body. The log has the cause under the same tracking id.

| code | name | HTTP | AMQP condition | MQTT | text |
|---|---|---|---|---|---|
`)
	for _, e := range hub.Errors() {
		fmt.Fprintf(&b, "| %d | %s | %d | `%s` | %s | %s |\n", e.Code, e.Name, e.Status, e.Condition, e.MQTT, strings.ReplaceAll(e.Text, "%s", "…"))
	}
	b.WriteString("\n501000 is Iolite's own: the real hub has the feature, Iolite does not yet. So are the codes x9xx, as numbers: Event Hubs, whose errors they are, has conditions and texts alone.\n")
	const page = "docs/errors.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("%s is not the table; run go test -run ErrorPage -update . (-page +table)\n%s", page, diff)
	}
}

// TestComposeFileHasTheDevelopmentKeys keeps the connection strings of docker-compose.yml good: the keys in it are derived, never told.
func TestComposeFileHasTheDevelopmentKeys(t *testing.T) {
	text, err := os.ReadFile("docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	device, _ := hub.DeriveKeys(store.Key{DeviceID: "device1"})
	want := map[string]string{"device1": "DeviceId=device1;SharedAccessKey=" + device}
	for _, p := range iolitetest.Run(t).Info().Policies {
		if p.Name == "service" {
			want[p.Name] = "SharedAccessKeyName=service;SharedAccessKey=" + p.PrimaryKey + ";"
		}
	}
	if len(want) != 2 {
		t.Fatal("there is no policy service")
	}
	for name, part := range want {
		if !strings.Contains(string(text), part) {
			t.Errorf("docker-compose.yml lacks the key of %s: %s", name, part)
		}
	}
}

// TestMetricsPageHasTheMetricsOfTheCode keeps docs/metrics.md what /metrics serves.
func TestMetricsPageHasTheMetricsOfTheCode(t *testing.T) {
	text, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:`([a-z0-9_]+)` \\((\\w+)\\)|not there) \\| ([^|]*) \\|")
	var page, code []string
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if m[2] != "" {
			page = append(page, strings.Join(append(m[1:4], strings.NewReplacer("`", "", " ", "").Replace(m[4])), " "))
		}
	}
	for _, m := range hub.DocumentedMetrics() {
		code = append(code, strings.Join([]string{m.Name, m.Series, string(m.Kind), strings.Join(m.Labels, ",")}, " "))
	}
	if diff := cmp.Diff(code, page); diff != "" {
		t.Errorf("docs/metrics.md and hub.DocumentedMetrics differ (-code +page):\n%s", diff)
	}
}

// TestOneLogKeyForIdentities keeps the rooms from naming devices and modules in words of their own, or without the hub's category.
func TestOneLogKeyForIdentities(t *testing.T) {
	line := regexp.MustCompile(`\.log\.(With|Debug|Info|Warn|Error|ErrorContext)\((.*)`)
	other := regexp.MustCompile(`"(device|module|identity|deviceID|moduleID)"`)
	for _, room := range []string{"hub", "broker", "amqpsrv", "httpapi", "egress", "door"} {
		files, err := filepath.Glob(filepath.Join(room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(room, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range line.FindAllString(string(text), -1) {
				switch {
				case other.MatchString(call):
					t.Errorf("%s: the keys are deviceId and moduleId: %s", file, call)
				case room != "hub" && !strings.Contains(call, "ategory") && !strings.Contains(call, ".With(") && !strings.Contains(call, `"door"`):
					t.Errorf("%s: no category: %s", file, call)
				}
			}
		}
	}
}
