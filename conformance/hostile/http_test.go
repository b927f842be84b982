package hostile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/door"
)

var httpClient = &http.Client{Timeout: patience}

// rest makes a request of the policy iothubowner.
func rest(t *testing.T, method, path, body, ifMatch string) (status int, text string) {
	t.Helper()
	token, err := target.backend.Token()
	must(t, err)
	return request(t, method, path, body, token, ifMatch)
}

// request makes a well-formed request with a token.
func request(t *testing.T, method, path, body, token, ifMatch string) (status int, text string) {
	t.Helper()
	if httpClient.Transport == nil {
		httpClient.Transport = &http.Transport{TLSClientConfig: target.backend.TLS(), MaxIdleConnsPerHost: 2}
	}
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	r, err := http.NewRequestWithContext(deadline(t), method, "https://"+address+path+mark+"api-version=2021-04-12", strings.NewReader(body))
	must(t, err)
	r.Header.Set("Authorization", token)
	if ifMatch != "" {
		r.Header.Set("If-Match", ifMatch)
	}
	answer, err := httpClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, string(b)
}

func httpsDial(t *testing.T) net.Conn {
	t.Helper()
	c, err := dialTLS(target, door.HTTPS)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// answers reads all responses until the hub closes or nothing comes for a moment; a request that ends with "Connection: close" makes
// the hub close.
func answers(t *testing.T, c net.Conn) (status []int) {
	t.Helper()
	r := bufio.NewReader(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Errorf("the hub neither answered nor closed; before that: %v", status)
			}
			return status
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		status = append(status, answer.StatusCode)
	}
}

func TestHTTPRefusesWhoIsNotAllowed(t *testing.T) {
	attack(t)
	d, other := target.device(t), target.device(t)
	for name, token := range tokenForms(t, d, other) {
		if strings.ContainsAny(token, "\x00") {
			continue // net/http does not send it; the raw requests do
		}
		t.Run(name, func(t *testing.T) {
			if status, body := request(t, http.MethodPost, "/devices/"+d.DeviceID+"/messages/events", "x", token, ""); status != http.StatusUnauthorized {
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
	for _, probe := range []struct{ method, path, body string }{
		{http.MethodGet, "/devices", ""}, {http.MethodGet, "/devices/" + d.DeviceID, ""}, {http.MethodDelete, "/devices/" + d.DeviceID, ""},
		{http.MethodPut, "/devices/" + d.DeviceID, `{"deviceId":"` + d.DeviceID + `"}`}, {http.MethodPost, "/devices", "[]"},
		{http.MethodGet, "/statistics/devices", ""}, {http.MethodGet, "/messages/servicebound/feedback", ""}, {http.MethodDelete, "/devices/" + d.DeviceID + "/commands", ""},
		{http.MethodGet, "/twins/" + d.DeviceID, ""}, {http.MethodPatch, "/twins/" + d.DeviceID, "{}"}, {http.MethodPut, "/twins/" + d.DeviceID, "{}"},
		{http.MethodPost, "/twins/" + d.DeviceID + "/methods", `{"methodName":"m"}`}, {http.MethodPut, "/devices/" + d.DeviceID + "/modules/m", `{"moduleId":"m"}`},
		{http.MethodPost, "/devices/query", `{"query":"SELECT * FROM devices"}`}, {http.MethodPost, "/devices/keys/regenerate", `{"policyKey":"both","devices":[]}`},
		{http.MethodGet, "/jobs/v2/query", ""}, {http.MethodGet, "/jobs", ""}, {http.MethodGet, "/configurations", ""}, {http.MethodGet, "/digitaltwins/" + d.DeviceID, ""},
	} {
		t.Run("a device as back end "+probe.method+" "+probe.path, func(t *testing.T) {
			if status, body := request(t, probe.method, probe.path, probe.body, target.token(t, d), ""); status != http.StatusUnauthorized {
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
}

func TestHTTPAnswersBadBodies(t *testing.T) {
	attack(t)
	d := target.device(t)
	id := d.DeviceID
	owner, err := target.backend.Token()
	must(t, err)
	device := target.token(t, d)
	deep := strings.Repeat(`[`, 500_000)
	deepObject := strings.Repeat(`{"a":`, 100_000)
	for name, test := range map[string]struct {
		method, path, body, token, contentType string
		want                                   int
	}{
		"not JSON":                       {"PUT", "/devices/x", "hello", owner, "", 400},
		"empty":                          {"PUT", "/devices/x", "", owner, "", 400},
		"half":                           {"PUT", "/devices/x", `{"deviceId":"x"`, owner, "", 400},
		"two values":                     {"PUT", "/devices/x", `{"deviceId":"x"}{}`, owner, "", 400},
		"an array":                       {"PUT", "/devices/x", `[]`, owner, "", 400},
		"null":                           {"PUT", "/devices/x", `null`, owner, "", 400},
		"number for a name":              {"PUT", "/devices/x", `{"deviceId":7}`, owner, "", 400},
		"another name":                   {"PUT", "/devices/x", `{"deviceId":"y"}`, owner, "", 400},
		"deep arrays":                    {"PUT", "/devices/x", deep, owner, "", 400},
		"deep objects":                   {"PUT", "/devices/x", deepObject, owner, "", 400},
		"deep arrays in a bulk request":  {"POST", "/devices", deep, owner, "", 400},
		"over 1 MiB":                     {"PUT", "/devices/x", strings.Repeat(" ", 1<<20+1), owner, "", 413},
		"101 devices at once":            {"POST", "/devices", "[" + strings.TrimSuffix(strings.Repeat(`{"id":"q","importMode":"create"},`, 101), ",") + "]", owner, "", 0},
		"bad key":                        {"PUT", "/devices/x", `{"deviceId":"x","authentication":{"type":"sas","symmetricKey":{"primaryKey":"!","secondaryKey":"!"}}}`, owner, "", 400},
		"bad status":                     {"PUT", "/devices/x", `{"deviceId":"x","status":"asleep"}`, owner, "", 400},
		"bad thumbprint":                 {"PUT", "/devices/x", `{"deviceId":"x","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"zz"}}}`, owner, "", 400},
		"one byte over 256 KiB":          {"POST", "/devices/" + id + "/messages/events", strings.Repeat("x", 256<<10+1), device, "", 413},
		"half a million bytes":           {"POST", "/devices/" + id + "/messages/events", strings.Repeat("x", 500_000), device, "", 413},
		"a batch that is not JSON":       {"POST", "/devices/" + id + "/messages/events", "hello", device, "application/vnd.microsoft.iothub.json", 400},
		"an empty batch":                 {"POST", "/devices/" + id + "/messages/events", "[]", device, "application/vnd.microsoft.iothub.json", 400},
		"a batch without bodies":         {"POST", "/devices/" + id + "/messages/events", "[{},{}]", device, "application/vnd.microsoft.iothub.json", 400},
		"a batch that is not base64":     {"POST", "/devices/" + id + "/messages/events", `[{"body":"%"}]`, device, "application/vnd.microsoft.iothub.json", 400},
		"a batch with deep properties":   {"POST", "/devices/" + id + "/messages/events", `[{"body":"","properties":` + strings.Repeat("[", 200_000), device, "application/vnd.microsoft.iothub.json", 400},
		"a batch with nested properties": {"POST", "/devices/" + id + "/messages/events", `[{"body":"","properties":{"a":{"b":1}}}]`, device, "application/vnd.microsoft.iothub.json", 400},
	} {
		t.Run(name, func(t *testing.T) {
			c := httpsDial(t)
			_, _ = fmt.Fprintf(c, "%s %s?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\nContent-Type: %s\r\nConnection: close\r\n\r\n%s",
				test.method, test.path, test.token, len(test.body), test.contentType, test.body)
			status := answers(t, c)
			if len(status) != 1 || status[0] != test.want && (test.want != 0 || status[0] < 400 || status[0] >= 500) {
				t.Errorf("status %v, want %d", status, test.want)
			}
		})
	}
}

func TestHTTPAnswersBrokenRequests(t *testing.T) {
	attack(t)
	d := target.device(t)
	events := "POST /devices/" + d.DeviceID + "/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: " + target.token(t, d) + "\r\n"
	inner := events + "Content-Length: 8\r\nConnection: close\r\n\r\nsmuggled"
	for name, test := range map[string]struct {
		said string
		want string // statuses, any of those separated by a bar
	}{
		"garbage":                          {"\x00\x01\x02\r\n\r\n", "[400]"},
		"TLS in TLS":                       {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "[400]"},
		"HTTP/0.9":                         {"GET /\r\n\r\n", "[400]"},
		"HTTP/2 preface":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "[505]|[400]|[405]"},
		"HTTP/9.9":                         {"GET / HTTP/9.9\r\nHost: x\r\n\r\n", "[505]"},
		"no Host":                          {"GET / HTTP/1.1\r\n\r\n", "[400]"},
		"two Hosts":                        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "[400]"},
		"header without a colon":           {"GET / HTTP/1.1\r\nHost: x\r\nhello\r\n\r\n", "[400]"},
		"space before the colon":           {events + "Content-Length : 3\r\n\r\nabc", "[400]"},
		"folded header":                    {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\nConnection: close\r\n\r\n", "[400]|[404]"},
		"NUL in a header":                  {events + "iothub-app-a: \x00\r\n\r\n", "[400]"},
		"bare CR in a header":              {events + "iothub-app-a: x\ry\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "[400]|[204]"},
		"method with a slash":              {"GE/T / HTTP/1.1\r\nHost: x\r\n\r\n", "[400]"},
		"badly encoded path":               {"GET /devices/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "[400]"},
		"NUL in the path":                  {"GET /devices/%00?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "[400]|[401]|[404]"},
		"path upwards":                     {"GET /devices/../../../etc/passwd?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "[404]"},
		"headers of 200 KB":                {"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 200_000) + "\r\n\r\n", "[431]"},
		"20,000 headers":                   {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 20_000) + "\r\n", "[431]"},
		"request line of 100 KB":           {"GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "[431]"},
		"Content-Length of words":          {events + "Content-Length: many\r\n\r\n", "[400]"},
		"Content-Length negative":          {events + "Content-Length: -1\r\n\r\n", "[400]"},
		"Content-Length signed":            {events + "Content-Length: +3\r\n\r\nabc", "[400]"},
		"Content-Length of 2^64":           {events + "Content-Length: 18446744073709551616\r\n\r\n", "[400]"},
		"Content-Length of 2^62":           {events + "Content-Length: 4611686018427387904\r\nConnection: close\r\n\r\n", "[413]"},
		"Content-Length of 4 GB":           {events + "Content-Length: 4294967296\r\nConnection: close\r\n\r\n", "[413]"},
		"Content-Length of half a million": {events + "Content-Length: 500000\r\nConnection: close\r\n\r\nabc", "[413]"},
		"two Content-Lengths":              {events + "Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc", "[400]"},
		"two Content-Lengths in one":       {events + "Content-Length: 3, 30\r\n\r\nabc", "[400]"},
		"unknown transfer coding":          {events + "Transfer-Encoding: gzip, chunked\r\n\r\n", "[501]|[400]"},
		"chunked twice":                    {events + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "[400]|[501]"},
		"chunk size of words":              {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", "[400]"},
		"chunk size negative":              {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n-1\r\n", "[400]"},
		"chunk size of 2^64":               {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n10000000000000000\r\n", "[400]"},
		"unfinished: chunk size of 2^64-1": {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nffffffffffffffff\r\n" + strings.Repeat("x", 300_000), "[413]|[400]"},
		"chunk extension of 100 KB":        {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1;" + strings.Repeat("e", 100_000) + "\r\nx\r\n0\r\n\r\n", "[400]"},
		"unfinished: chunks without end":   {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 5), "[413]"},
		"a byte per chunk, 256 KiB":        {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 1000) + "0\r\n\r\n", "[204]|[400]"},
		"trailer":                          {events + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\niothub-app-x: y\r\n\r\n", "[204]|[400]"},
		// Smuggling: a front end and we must not disagree about where a request ends. Either way only one request is seen.
		"smuggled by CL and TE":          {events + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner, "[400]|[204]|[204 204]"},
		"smuggled by CL and TE in a row": {events + "Content-Length: " + strconv.Itoa(5+len(inner)) + "\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n" + inner, "[400]|[204]"},
		"smuggled by TE with a tab":      {events + "Content-Length: 4\r\nTransfer-Encoding:\tchunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n", "[400]|[204]"},
		"smuggled by xchunked":           {events + "Content-Length: 4\r\nTransfer-Encoding: xchunked\r\nConnection: close\r\n\r\nabcd", "[400]|[501]"},
		"Expect of something else":       {events + "Expect: the-unexpected\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "[417]"},
		"CONNECT":                        {"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nConnection: close\r\n\r\n", "[404]|[405]"},
		"absolute target":                {"GET http://example.com/devices HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "[400]|[401]"},
		"token with NUL":                 {"GET /devices?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: a\x00b\r\n\r\n", "[400]"},
	} {
		t.Run(name, func(t *testing.T) {
			c := httpsDial(t)
			_, _ = c.Write([]byte(test.said))          // the hub may be quicker to answer and close
			if strings.HasPrefix(name, "unfinished") { // the hub waits for the rest, but not for ever
				answer, err := http.ReadResponse(bufio.NewReader(c), nil)
				must(t, err)
				if got := fmt.Sprintf("[%d]", answer.StatusCode); !strings.Contains(test.want, got) {
					t.Errorf("status %s, want %s", got, test.want)
				}
				return
			}
			if got := fmt.Sprint(answers(t, c)); !strings.Contains("|"+test.want+"|", "|"+got+"|") {
				t.Errorf("status %s, want %s", got, test.want)
			}
		})
	}
}

// TestHTTPPipelinesInOrder: a client that does not wait for answers gets each of them, and its messages stay apart.
func TestHTTPPipelinesInOrder(t *testing.T) {
	attack(t)
	d := target.device(t)
	token := target.token(t, d)
	var all bytes.Buffer
	const n = 500
	for i := range n {
		end := ""
		if i == n-1 {
			end = "Connection: close\r\n"
		}
		_, _ = fmt.Fprintf(&all, "POST /devices/%s/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n%siothub-app-N%d: %d\r\nContent-Length: 3\r\n\r\nabc", d.DeviceID, token, end, i, i)
	}
	c := httpsDial(t)
	go func() { _, _ = c.Write(all.Bytes()) }()
	status := answers(t, c)
	if len(status) != n {
		t.Fatalf("%d answers to %d requests", len(status), n)
	}
	for i, s := range status {
		if s != http.StatusNoContent {
			t.Fatalf("request %d: status %d", i, s)
		}
	}
}

func TestHTTPConnectionsThatDieInTheMiddle(t *testing.T) {
	attack(t)
	d := target.device(t)
	whole := fmt.Sprintf("POST /devices/%s/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 300\r\n\r\n%s", d.DeviceID, target.token(t, d), strings.Repeat("x", 299))
	for cut := 1; cut < len(whole); cut += 37 {
		c := httpsDial(t)
		_, err := c.Write([]byte(whole[:cut]))
		must(t, err)
		drop(c)
	}
}

// TestQueueAndLocksAreGuarded: the 51st message is refused, a lock that was never given holds nothing.
func TestQueueAndLocksAreGuarded(t *testing.T) {
	attack(t)
	d := target.device(t)
	for i := range 50 {
		if err := target.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage([]byte("x"))); err != nil {
			t.Fatalf("message %d: %v", i+1, err)
		}
	}
	if err := target.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage([]byte("x"))); err == nil || !strings.Contains(err.Error(), "resource-limit-exceeded") {
		t.Errorf("message 51: %v", err)
	}
	if err := target.backend.SendC2D(deadline(t), "nobody-at-all", amqp.NewMessage([]byte("x"))); err == nil || !strings.Contains(err.Error(), "not-found") {
		t.Errorf("message to an unknown device: %v", err)
	}
	if err := target.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage(make([]byte, 64<<10+1))); err == nil || !strings.Contains(err.Error(), "size-exceeded") {
		t.Errorf("message over 64 KiB: %v", err)
	}
	token := target.token(t, d)
	bound := "/devices/" + d.DeviceID + "/messages/devicebound"
	for _, lock := range []string{"nonsense", "00000000-0000-0000-0000-000000000000", strings.Repeat("l", 4000), "%2e%2e", "%00"} {
		if status, body := request(t, http.MethodDelete, bound+"/"+lock, "", token, ""); status != http.StatusPreconditionFailed {
			t.Errorf("completing lock %.40q: status %d: %s", lock, status, body)
		}
		if status, _ := request(t, http.MethodPost, bound+"/"+lock+"/abandon", "", token, ""); status != http.StatusPreconditionFailed {
			t.Errorf("abandoning lock %.40q: status %d", lock, status)
		}
	}
	other := target.device(t)
	if status, _ := request(t, http.MethodGet, bound, "", target.token(t, other), ""); status != http.StatusUnauthorized {
		t.Errorf("another device's queue: status %d", status)
	}
	if status, _ := request(t, http.MethodGet, bound, "", token, ""); status != http.StatusOK {
		t.Errorf("first poll: status %d", status)
	}
	if status, _ := request(t, http.MethodGet, bound, "", token, ""); status != http.StatusTooManyRequests {
		t.Errorf("second poll: status %d", status)
	}
}
