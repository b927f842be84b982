package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/certs/certtest"
)

func TestReadinessIsTruthful(t *testing.T) {
	r := newRig(t)
	r.ready = false
	r.ask("GET", "/readyz", "").want(503).has(`"ready": false`)
	r.ask("GET", "/livez", "").want(200).has(`"live": true`)
	r.ready = true
	r.ask("GET", "/readyz", "").want(200).has(`"ready": true`)
}

func TestInfoTellsEmptyListsNotNull(t *testing.T) {
	r := newRig(t)
	var got Info
	a := r.ask("GET", "/iolite/v1/info", "").want(200)
	must(t, json.Unmarshal([]byte(a.Body), &got))
	want := r.info()
	want.Policies, want.Devices = []PolicyInfo{}, []DeviceConnection{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.has("HostName=localhost;<b>")
}

func TestClockMovesAsToldAndFiresWhatIsDue(t *testing.T) {
	r := newRig(t)
	fired := false
	r.clock.AfterFunc(20*time.Minute, func() { fired = true })
	var got ClockState
	must(t, json.Unmarshal([]byte(r.ask("POST", "/iolite/v1/clock", `{"advance":"25m"}`).want(200).Body), &got))
	if want := start.Add(25 * time.Minute); !got.Now.Equal(want) || !fired {
		t.Errorf("now %v, want %v; fired %v", got.Now, want, fired)
	}
	r.ask("GET", "/iolite/v1/clock", "").want(200).has(`"now": "2026-01-02T03:29:05Z"`)
	for _, bad := range []string{
		"", "{}", "[]", `{"advance":""}`, `{"advance":"-1s"}`, `{"advance":"0s"}`, `{"advance":"soon"}`, `{"advance":25}`, `{"advance":"25"}`,
		`{"advance":"1m"} {"advance":"1m"}`, `{"advance":"1m","by":"me"}`, `{"advance":"1000000h"}`, `{"advance":"99999999999999h"}`,
	} {
		r.ask("POST", "/iolite/v1/clock", bad).want(400).has(`"error"`)
	}
	r.ask("POST", "/iolite/v1/clock", strings.Repeat(" ", 2<<10)).want(413)
	if got := r.clock.Now(); !got.Equal(start.Add(25 * time.Minute)) {
		t.Errorf("bad requests moved the clock to %v", got)
	}
}

func TestViolationsAreListedAndForgotten(t *testing.T) {
	r := newRig(t)
	r.ask("GET", "/iolite/v1/violations", "").want(200).has(`"violations": []`)
	r.violate("d1")
	var got Violations
	must(t, json.Unmarshal([]byte(r.ask("GET", "/iolite/v1/violations", "").want(200).Body), &got))
	want := Violations{1, []Violation{{DeviceID: "d1", At: start, Previous: start, Elapsed: "0s", Interval: "25m0s", Refused: true, Remote: "pipe"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.ask("DELETE", "/iolite/v1/violations", "").want(204)
	r.ask("GET", "/iolite/v1/violations", "").want(200).has(`"count": 0`)
}

func TestConnectionsAreListedAndCut(t *testing.T) {
	r := newRig(t)
	const id = "d%2F#1"
	peer, ended := r.connect(id)
	var got Connections
	must(t, json.Unmarshal([]byte(r.ask("GET", "/iolite/v1/connections", "").want(200).Body), &got))
	want := []Connection{{DeviceID: id, Door: "mqtt", Remote: "pipe", Since: start, UserAgent: "test <1>", Authentication: "sas"}}
	if diff := cmp.Diff(want, got.Connections); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.ask("DELETE", "/iolite/v1/connections/nobody", "").want(200).has(`"disconnected": 0`)
	r.ask("DELETE", "/iolite/v1/connections/d%252F%231", "").want(200).has(`"disconnected": 1`)
	<-ended
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer reads %v, want the end", err)
	}
	r.ask("GET", "/iolite/v1/connections", "").want(200).has(`"connections": []`)
}

func TestResetTellsWhenItFails(t *testing.T) {
	r := newRig(t)
	r.violate("d1")
	r.ask("POST", "/iolite/v1/reset", "").want(204)
	r.ask("GET", "/iolite/v1/violations", "").has(`"count": 0`)
	r.resetErr = errors.New("the seed is bad")
	r.ask("POST", "/iolite/v1/reset", "").want(500).has("the seed is bad")
}

func TestCAsAreRegisteredAllOrNone(t *testing.T) {
	r := newRig(t)
	one, two := certtest.NewCA(t, "CA one"), certtest.NewCA(t, "CA two")
	r.ask("GET", "/iolite/v1/cas", "").want(200).has(`"cas": []`)
	r.ask("POST", "/iolite/v1/cas", "some text\n"+string(one.PEM())+string(two.PEM())).want(201).has("CN=CA one").has("CN=CA two")
	if n := len(r.hub.CAs()); n != 2 {
		t.Fatalf("%d CAs, want 2", n)
	}
	three := certtest.NewCA(t, "CA three")
	device := pemOf(certtest.SelfSigned(t, "no CA").Certificate[0])
	for name, bad := range map[string]string{
		"nothing": "", "no PEM": "hello", "a device's": string(three.PEM()) + device, "a key": string(three.PEM()) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"garbage": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		t.Run(name, func(t *testing.T) { r.ask("POST", "/iolite/v1/cas", bad).want(400).has(`"error"`) })
	}
	r.ask("POST", "/iolite/v1/cas", strings.Repeat("x", maxCABody+1)).want(413)
	if n := len(r.hub.CAs()); n != 2 {
		t.Errorf("%d CAs after bad requests, want 2", n)
	}
}

func TestCAAndMetricsAreServed(t *testing.T) {
	r := newRig(t)
	r.ask("GET", "/iolite/v1/ca.pem", "").want(200).has("BEGIN CERTIFICATE")
	r.violate("d1")
	r.ask("GET", "/metrics", "").want(200).has("# TYPE ")
}

func TestUnknownPathsAndMethods(t *testing.T) {
	r := newRig(t)
	r.ask("GET", "/iolite/v1/nothing", "").want(404).has("openapi.yaml")
	r.ask("GET", "/iolite/v1/connections/a/b", "").want(404)
	a := r.ask("PUT", "/iolite/v1/violations", "").want(405)
	if got := a.Header.Get("Allow"); got != "GET, DELETE" {
		t.Errorf("Allow %q, want GET, DELETE", got)
	}
	r.ask("GET", "/iolite/v1/reset", "").want(405)
}

// DNS rebinding: a page may reach this address, but cannot hide its name.
func TestForeignHostsAndOriginsAreRefused(t *testing.T) {
	r := newRig(t)
	_, port, err := net.SplitHostPort(r.door.Addr().String())
	must(t, err)
	for _, own := range []string{
		"localhost", "LOCALHOST:1", "localhost.:80", "127.0.0.1:" + port, "127.8.8.8", "[::1]:80", "[::ffff:127.0.0.1]", "iolite.example", "Iolite.Example:9",
	} {
		r.ask("GET", "/livez", "", "Host", own).want(200)
		r.ask("POST", "/iolite/v1/reset", "", "Origin", "http://"+own).want(204)
	}
	for _, foreign := range []string{"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.1", "iolite.example.evil", "evil.example:" + port, "[fe80::1]", "0.0.0.0", "xlocalhost"} {
		r.ask("GET", "/livez", "", "Host", foreign).want(403).has(`"error"`)
		r.ask("GET", "/", "", "Host", foreign).want(403)
		r.ask("POST", "/iolite/v1/reset", "", "Origin", "http://"+foreign).want(403)
	}
	r.ask("POST", "/iolite/v1/reset", "", "Origin", "null").want(403)
	r.ask("POST", "/iolite/v1/reset", "", "Origin", "http://localhost", "Origin", "http://evil.example").want(403)
	c, err := net.Dial("tcp", r.door.Addr().String())
	must(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET /livez HTTP/1.0\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	defer response.Body.Close()
	if response.StatusCode != 403 {
		t.Errorf("without any host: %s, want 403", response.Status)
	}
}

// The address a request came in at is its own, whatever network it belongs to.
func TestBoundAddressIsOwn(t *testing.T) {
	s := &Server{}
	local := &net.TCPAddr{IP: net.IPv4(172, 17, 0, 2), Port: 8088}
	for host, want := range map[string]bool{"172.17.0.2:8088": true, "172.17.0.2": true, "[::ffff:172.17.0.2]:8088": true, "172.17.0.3:8088": false, "": false} {
		if got := s.own(host, local); got != want {
			t.Errorf("%q: own %v, want %v", host, got, want)
		}
	}
}

func TestDashboardShowsWhatIs(t *testing.T) {
	r := newRig(t)
	r.ask("GET", "/", "").want(200).has("No device is connected").has("None: every device").has("ready</span>")
	r.ready = false
	r.connect("d1")
	r.violate("d2")
	a := r.ask("GET", "/", "").want(200).has("Connections: 1").has("<td>d1</td>").has("violations: 1").has("<td>d2</td>").has("not ready").has("2026-01-02 03:04:05").has("HostName=localhost;&lt;b&gt;")
	if got := a.Header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") || !strings.Contains(got, "style-src 'sha256-") {
		t.Errorf("Content-Security-Policy %q", got)
	}
	if !strings.Contains(a.Body, "<style>"+dashboardCSS+"</style>") {
		t.Error("the style sheet is not the one whose hash the policy has")
	}
	if strings.Contains(a.Body, "<script") || strings.Contains(a.Body, "//") && strings.Contains(a.Body, "src=") {
		t.Error("the page loads something")
	}
}

func TestDashboardSaysWhenItShowsAPart(t *testing.T) {
	r := newRig(t)
	for i := range shownConnections + 1 {
		r.connect(fmt.Sprintf("d%03d", i))
	}
	for i := range shownViolations + 1 {
		r.violate(fmt.Sprintf("v%03d", i))
	}
	a := r.ask("GET", "/", "").has("Connections: 201").has("The first 200").has("violations: 51").has("The newest 50").has("<td>v050</td>")
	if strings.Contains(a.Body, "<td>d200</td>") || strings.Contains(a.Body, "<td>v000</td>") {
		t.Error("it shows more than it says")
	}
}

func TestSlowClientsAreDropped(t *testing.T) {
	s := New(newRig(t).server.Config)
	defer s.Close()
	s.http.ReadHeaderTimeout, s.http.ReadTimeout = 20*time.Millisecond, 20*time.Millisecond
	for _, half := range []string{"", "GET /livez HT", "POST /iolite/v1/clock HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"} {
		t.Run(fmt.Sprintf("%.5q", half), func(t *testing.T) {
			server, client := tcpPair(t)
			done := make(chan struct{})
			go func() {
				s.Serve(server)
				close(done)
			}()
			_, err := io.WriteString(client, half)
			must(t, err)
			<-done
		})
	}
}
