package hub

import (
	"fmt"
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// TestDeviceManagementNeedsItsRights: each operation is refused to a policy that lacks what it needs, and not to one that has it.
func TestDeviceManagementNeedsItsRights(t *testing.T) {
	h, _ := newBlobHub(t)
	edge(t, h, "e")
	const read, write, service = auth.RegistryRead, auth.RegistryWrite, auth.ServiceConnect
	operations := map[string]struct {
		needs auth.Rights
		call  func(*ServiceSession) error
	}{
		"schedule":   {service, func(s *ServiceSession) error { _, err := s.ScheduleJob(ctx, "j", tagJob("*", "")); return err }},
		"job":        {service, func(s *ServiceSession) error { _, err := s.Job(ctx, "j"); return err }},
		"cancel":     {service, func(s *ServiceSession) error { _, err := s.CancelJob(ctx, "nobody"); return err }},
		"query jobs": {service, func(s *ServiceSession) error { _, err := s.QueryJobs(ctx, JobQuery{}); return err }},
		"put configuration": {write, func(s *ServiceSession) error {
			_, err := s.PutConfiguration(ctx, "c", config(1, "", `{"properties.desired.p":1}`), "")
			return err
		}},
		"configuration":        {read, func(s *ServiceSession) error { _, err := s.Configuration(ctx, "c"); return err }},
		"configurations":       {read, func(s *ServiceSession) error { _, err := s.Configurations(ctx, 0); return err }},
		"delete configuration": {write, func(s *ServiceSession) error { return s.DeleteConfiguration(ctx, "nobody", "") }},
		"test queries":         {read, func(s *ServiceSession) error { _, err := s.TestConfigurationQueries(ctx, []byte("{}")); return err }},
		"apply": {write, func(s *ServiceSession) error {
			return s.ApplyConfiguration(ctx, "e", []byte(`{"modulesContent":{}}`))
		}},
		"digital twin": {service, func(s *ServiceSession) error { _, err := s.DigitalTwin(ctx, "e"); return err }},
		"patch digital twin": {service, func(s *ServiceSession) error {
			_, err := s.UpdateDigitalTwin(ctx, "e", []byte(`[{"op":"remove","path":"/a"}]`), "")
			return err
		}},
		"command": {service, func(s *ServiceSession) error {
			_, err := s.InvokeCommand(ctx, "e", "", MethodCall{Name: "m"})
			return err
		}},
		"create transfer": {read | write, func(s *ServiceSession) error {
			_, err := s.CreateImportExportJob(ctx, transferBody("export", ""))
			return err
		}},
		"transfers":       {read, func(s *ServiceSession) error { _, err := s.ImportExportJobs(ctx); return err }},
		"transfer":        {read, func(s *ServiceSession) error { _, err := s.ImportExportJob(ctx, "nobody"); return err }},
		"cancel transfer": {write, func(s *ServiceSession) error { return s.CancelImportExportJob(ctx, "nobody") }},
	}
	all := read | write | service | auth.DeviceConnect
	for name, o := range operations {
		for _, missing := range []auth.Rights{read | write, write, service} { // who may write may read
			s, err := h.OpenService(ctx, auth.Principal{Policy: "p", Rights: all &^ missing, Method: auth.MethodSAS}, nil)
			if err != nil {
				t.Fatal(err)
			}
			refused := codeOf(o.call(s)) == CodeUnauthorized
			if refused != (o.needs&missing != 0) {
				t.Errorf("%s without %v: refused %t", name, missing, refused)
			}
			s.Close()
		}
	}
}

func TestSettingsThatDoNotFitLeaveTheTwinAsItIs(t *testing.T) {
	h, _ := newTestHub(t)
	d := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	big := func(name string) string {
		var parts []string
		for i := range 5 {
			parts = append(parts, fmt.Sprintf(`"%s%d":"%s"`, name, i, strings.Repeat("x", 4000)))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	tag(t, h, d, `{"properties":{"desired":`+big("own")+`}}`)
	putConfig(t, h, "big", config(1, "*", `{"properties.desired":`+big("more")+`}`))
	wantTwin(t, h, d, big("own"), "")
	tag(t, h, d, `{"properties":{"desired":{"own0":null,"own1":null,"own2":null}}}`) // now there is room
	if row, _ := h.twinRow(ctx, d); !row.Twin.Configurations.Get("big").IsDefined() || !row.Twin.Desired.Value.Get("more4").IsDefined() {
		t.Errorf("%s", row.Twin.Configurations.AppendJSON(nil))
	}
}

func TestTheTargetedCountHasTheQueryOfItsCondition(t *testing.T) {
	const plain, always = "select deviceId from devices", "capabilities.iotEdge = true"
	grows := strings.Repeat("ɐ", 30) // its capital letter has more bytes
	for _, try := range [][3]string{
		{"", "", ""}, {always, "", ""},
		{"", "*", "select deviceId from devices"}, {always, " * ", "select deviceId from devices where capabilities.iotEdge = true"},
		{"", "tags.a = 1 or tags.b = 2", "select deviceId from devices where tags.a = 1 or tags.b = 2"},
		{always, "tags.a = 1 or tags.b = 2", "select deviceId from devices where capabilities.iotEdge = true and (tags.a = 1 or tags.b = 2)"},
		{"", "From devices.modules Where x = 1", "select deviceId From devices.modules Where x = 1"},
		{"", "FROM devices AS d\nWHERE d.tags.a = ' WHERE '", "select deviceId FROM devices AS d\nWHERE d.tags.a = ' WHERE '"},
		{always, "FROM devices WHERE tags.a = 1", "select deviceId FROM devices where capabilities.iotEdge = true and (tags.a = 1)"},
		{always, "FROM devices", "select deviceId FROM devices where capabilities.iotEdge = true"},
		{always, "FROM devices AS d\tWHERE d.tags.a = ' WHERE '", "select deviceId FROM devices AS d where capabilities.iotEdge = true and (d.tags.a = ' WHERE ')"},
		{always, "FROM devices AS " + grows + " WHERE " + grows + ".x = 1", "select deviceId FROM devices AS " + grows + " where capabilities.iotEdge = true and (" + grows + ".x = 1)"},
	} {
		if got := targetQuery(plain, try[0], try[1]); got != try[2] {
			t.Errorf("%q with %q: %q, want %q", try[1], try[0], got, try[2])
		}
	}
}

func TestAnErrorLogSaysWhatItHasNoRoomFor(t *testing.T) {
	var log errorLog
	line := object("id", document.OfString(strings.Repeat("x", 1<<20)))
	for range 12 {
		log.add(line)
	}
	if text := log.String(); len(text) > maxImportErrors+2<<20 || !strings.HasSuffix(text, "\n{\"lost\":4}\n") {
		t.Errorf("%d bytes, ends with %q", len(text), text[len(text)-20:])
	}
}
