package hostile

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestControlRefusesStrangers: a page on the web can make a browser call the control API, but not hide where it comes from.
func TestControlRefusesStrangers(t *testing.T) {
	attack(t)
	big := `{"advance":"` + strings.Repeat("1", 100_000) + `h"}`
	body := func(method, path, headers, content string) string {
		return fmt.Sprintf("%s %s HTTP/1.1\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", method, path, headers, len(content), content)
	}
	own := "Host: " + address + ":8088\r\n"
	for name, test := range map[string]struct{ said, want string }{
		"own host":                     {body("GET", "/livez", own, ""), "[200]"},
		"localhost":                    {body("GET", "/livez", "Host: localhost:8088\r\n", ""), "[200]"},
		"foreign host":                 {body("POST", "/iolite/v1/reset", "Host: evil.example\r\n", ""), "[403]"},
		"foreign host that looks like": {body("POST", "/iolite/v1/reset", "Host: 127.0.0.1.evil.example\r\n", ""), "[403]"},
		"foreign host with user":       {body("POST", "/iolite/v1/reset", "Host: localhost@evil.example\r\n", ""), "[403]|[400]"},
		"foreign address":              {body("POST", "/iolite/v1/reset", "Host: 192.0.2.1\r\n", ""), "[403]"},
		"decimal address":              {body("POST", "/iolite/v1/reset", "Host: 2130706433\r\n", ""), "[403]"},
		"any address":                  {body("POST", "/iolite/v1/reset", "Host: 0.0.0.0\r\n", ""), "[403]"},
		"empty host":                   {body("POST", "/iolite/v1/reset", "Host: \r\n", ""), "[403]|[400]"},
		"no host, HTTP/1.0":            {"POST /iolite/v1/reset HTTP/1.0\r\n\r\n", "[403]|[400]"},
		"no host":                      {"POST /iolite/v1/reset HTTP/1.1\r\n\r\n", "[400]"},
		"foreign absolute target":      {"POST http://evil.example/iolite/v1/reset HTTP/1.1\r\n" + own + "Connection: close\r\nContent-Length: 0\r\n\r\n", "[403]"},
		"foreign origin":               {body("POST", "/iolite/v1/reset", own+"Origin: http://evil.example\r\n", ""), "[403]"},
		"foreign origin, GET":          {body("GET", "/iolite/v1/info", own+"Origin: http://evil.example\r\n", ""), "[403]"},
		"origin null":                  {body("POST", "/iolite/v1/reset", own+"Origin: null\r\n", ""), "[403]"},
		"empty origin":                 {body("POST", "/iolite/v1/reset", own+"Origin: \r\n", ""), "[403]"},
		"own and foreign origin":       {body("POST", "/iolite/v1/reset", own+"Origin: http://localhost\r\nOrigin: http://evil.example\r\n", ""), "[403]"},
		"origin of a file":             {body("POST", "/iolite/v1/reset", own+"Origin: file://\r\n", ""), "[403]"},
		"preflight":                    {body("OPTIONS", "/iolite/v1/reset", own+"Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n", ""), "[403]"},
		"clock: not JSON":              {body("POST", "/iolite/v1/clock", own, "hello"), "[400]"},
		"clock: deep":                  {body("POST", "/iolite/v1/clock", own, strings.Repeat("[", 1000)), "[400]"},
		"clock: backwards":             {body("POST", "/iolite/v1/clock", own, `{"advance":"-1h"}`), "[400]"},
		"clock: beyond time":           {body("POST", "/iolite/v1/clock", own, `{"advance":"2000000h"}`), "[400]"},
		"clock: beyond durations":      {body("POST", "/iolite/v1/clock", own, `{"advance":"9999999999h"}`), "[400]"},
		"clock: too large":             {body("POST", "/iolite/v1/clock", own, big), "[413]"},
		"clock: unknown field":         {body("POST", "/iolite/v1/clock", own, `{"advance":"1h","back":true}`), "[400]"},
		"cas: not PEM":                 {body("POST", "/iolite/v1/cas", own, "hello"), "[400]"},
		"cas: garbage in PEM":          {body("POST", "/iolite/v1/cas", own, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"), "[400]"},
		"cas: half a million":          {body("POST", "/iolite/v1/cas", own, strings.Repeat("x", 500_000)), "[413]"},
		"unknown device":               {body("DELETE", "/iolite/v1/connections/%00%ff", own, ""), "[404]|[400]|[200]"},
		"unknown path":                 {body("GET", "/etc/passwd", own, ""), "[404]"},
		"upwards":                      {body("GET", "/../../etc/passwd", own, ""), "[404]|[301]|[400]"},
		"wrong method":                 {body("DELETE", "/iolite/v1/reset", own, ""), "[405]"},
		"headers of 64 KB":             {body("GET", "/livez", own+"A: "+strings.Repeat("a", 64<<10)+"\r\n", ""), "[431]"},
		"garbage":                      {"\x00\r\n\r\n", "[400]"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.DialTimeout("tcp", target.address, patience)
			must(t, err)
			defer c.Close()
			_, _ = io.WriteString(c, test.said)
			if got := fmt.Sprint(answers(t, c)); !strings.Contains("|"+test.want+"|", "|"+got+"|") {
				t.Errorf("status %s, want %s", got, test.want)
			}
		})
	}
	// Nothing of that moved the clock or emptied the hub.
	state, err := target.control.Clock(deadline(t))
	must(t, err)
	if state.Offset != time.Duration(0).String() {
		t.Error("the clock was moved: ", state.Offset)
	}
	if status, _ := rest(t, http.MethodGet, "/devices/witness", "", ""); status != http.StatusOK {
		t.Error("the hub was reset")
	}
}
