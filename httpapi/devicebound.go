package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// headerTime is how the headers of a received message show times, and lockSeconds the only lock time there is.
// Source: azure-iot-cli-extension, tests/iothub/core/test_iothub_unit.py, sample_c2d_receive.
const (
	headerTime  = "1/2/2006 3:04:05 PM"
	lockSeconds = "60"
)

// getDevicebound is GET /devices/{device}/messages/devicebound: lock and return the next message.
func (s *Server) getDevicebound(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	if t := r.Header.Get("iothub-messagelocktimeout"); t != "" && t != lockSeconds {
		s.log.Warn("iothub-messagelocktimeout is not supported: locks last "+lockSeconds+" s", "category", hub.C2DCommands, "deviceId", d.Key().DeviceID, "asked", t)
	}
	m, ok, err := d.PollC2D(r.Context())
	if err != nil {
		return err
	}
	if !ok {
		return noContent(w)
	}
	writeMessage(w, m, nil)
	return nil
}

// deleteDevicebound is DELETE .../devicebound/{lock}: complete, or with the query parameter reject, whatever its value, reject.
func (s *Server) deleteDevicebound(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	settle := d.CompleteC2D
	_, reject := queryValue(r.URL.RawQuery, "reject")
	_, rejectOfJava := queryValue(r.URL.RawQuery, "?reject") // azure-iot-sdk-java, transport/https/IotHubRejectUri.java
	if reject || rejectOfJava {
		settle = d.RejectC2D
	}
	if err := settle(r.Context(), param(r, "lock")); err != nil {
		return err
	}
	return noContent(w)
}

// abandonDevicebound is POST .../devicebound/{lock}/abandon.
func (s *Server) abandonDevicebound(w http.ResponseWriter, r *http.Request, d *hub.DeviceSession) error {
	if err := d.AbandonC2D(r.Context(), param(r, "lock")); err != nil {
		return err
	}
	return noContent(w)
}

// writeMessage answers with a locked message: its properties in headers, its body as it is. The C SDK wants the ETag quoted and
// reads ContentType and ContentEncoding, the others the iothub- names. contentType is the Content-Type header, nil for none.
func writeMessage(w http.ResponseWriter, m store.Message, contentType []string) {
	h := begin(w)
	set := func(name, value string) { h[name] = []string{value} }
	setETag(w, m.LockToken)
	set("iothub-messageid", m.MessageID)
	set("iothub-correlationid", m.CorrelationID)
	set("iothub-userid", m.UserID)
	set("iothub-to", m.To)
	set("iothub-ack", orNone(m.Ack))
	set("iothub-sequencenumber", strconv.FormatInt(m.Sequence, 10))
	set("iothub-deliverycount", strconv.Itoa(m.Abandons)) // as in AMQP
	set("iothub-enqueuedtime", formatTime(m.Enqueued))
	set("iothub-expiry", formatTime(m.Expiry))
	for _, p := range [][2]string{
		{"iothub-contenttype", m.ContentType}, {"ContentType", m.ContentType},
		{"iothub-contentencoding", m.ContentEncoding}, {"ContentEncoding", m.ContentEncoding},
		{"iothub-creationtimeutc", m.CreationTime}, {"iothub-messageschema", m.MessageSchema},
	} {
		if p[1] != "" {
			set(p[0], p[1])
		}
	}
	for _, p := range m.Properties {
		name := appPrefix + headerName(p.Name)
		h[name] = append(h[name], headerValue(p.Value))
	}
	h["Content-Type"] = contentType
	set("Content-Length", strconv.Itoa(len(m.Body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(m.Body) // the client is gone: the lock runs out
}

func orNone(ack string) string {
	if ack == "" {
		return "none"
	}
	return ack
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(headerTime)
}

// headerName percent-encodes what may not stand in a header name, so that no property is lost on the way.
func headerName(name string) string { return escape(name, isToken) }

// headerValue percent-encodes control characters, which no header can carry.
func headerValue(value string) string {
	return escape(value, func(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' })
}

// isToken reports whether c may stand in a header name (RFC 9110 5.6.2).
func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// escape percent-encodes the bytes of s that are not ok.
func escape(s string, ok func(byte) bool) string {
	const digits = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		switch c := s[i]; {
		case ok(c) && b != nil:
			b = append(b, c)
		case !ok(c):
			if b == nil {
				b = append(make([]byte, 0, len(s)+8), s[:i]...)
			}
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}
