package httpapi

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// upgrader has no sub-protocols of its own: the answer echoes the very token that was offered, upper case from the C SDK.
// It ignores offers of permessage-deflate.
var upgrader = websocket.Upgrader{
	ReadBufferSize:  1 << 10, // per connection, for as long as it lasts
	WriteBufferSize: 4 << 10, // lent from the pool for each message
	WriteBufferPool: &sync.Pool{},
	CheckOrigin:     ownOrigin,
	Error: func(w http.ResponseWriter, _ *http.Request, _ int, reason error) {
		refuseUpgrade(w, strings.TrimPrefix(reason.Error(), "websocket: "))
	},
}

// ownOrigin reports whether a WebSocket may be opened from where the request says it comes from: no browser, a page of this very
// host, or one of this machine. The policies' keys are known to all and WebSockets know no CORS, so that otherwise every page on the
// web could read a developer's hub.
func ownOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return true
	}
	return strings.EqualFold(host, "localhost") || strings.EqualFold(host, (&url.URL{Host: r.Host}).Hostname())
}

// subprotocol is what may be spoken on a WebSocket.
type subprotocol struct {
	token string // compared without regard to case
	door  door.Door
	head  func(*door.Conn)
}

// iothubWebsocket is GET /$iothub/websocket: MQTT or AMQP.
func (s *Server) iothubWebsocket(w http.ResponseWriter, r *http.Request) {
	s.upgrade(w, r, subprotocol{"mqtt", door.MQTTWS, s.mqtt}, subprotocol{"AMQPWSB10", door.AMQPWS, s.amqp}, subprotocol{"amqp", door.AMQPWS, s.amqp})
}

// servicebusWebsocket is GET /$servicebus/websocket, where Event Hubs clients go: AMQP.
func (s *Server) servicebusWebsocket(w http.ResponseWriter, r *http.Request) {
	s.upgrade(w, r, subprotocol{"AMQPWSB10", door.AMQPWS, s.amqp}, subprotocol{"amqp", door.AMQPWS, s.amqp})
}

// upgrade turns the connection into a WebSocket that carries the first offered sub-protocol that is spoken here.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, spoken ...subprotocol) {
	token, chosen, ok := choose(r, spoken)
	if !ok {
		refuseUpgrade(w, "no sub-protocol in Sec-WebSocket-Protocol is spoken here; offer "+offers(spoken))
		return
	}
	ws, err := upgrader.Upgrade(w, r, http.Header{"Sec-Websocket-Protocol": {token}})
	if err != nil {
		s.log.Debug("WebSocket upgrade failed", "category", hub.Connections, "remote", r.RemoteAddr, "error", err)
		return
	}
	c := wireOf(r)
	over := c.Over(newStream(ws), chosen.door)
	c.carryOn(func() { // on the goroutine of Serve: this one ends, and with it what net/http holds for the connection
		defer func() { _ = over.Close() }()
		chosen.head(over)
	})
}

// choose returns the first offered token that is spoken, as it was offered.
func choose(r *http.Request, spoken []subprotocol) (token string, chosen subprotocol, ok bool) {
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for offered := range strings.SplitSeq(line, ",") {
			offered = strings.TrimSpace(offered)
			for _, p := range spoken {
				if p.head != nil && strings.EqualFold(offered, p.token) {
					return offered, p, true
				}
			}
		}
	}
	return "", subprotocol{}, false
}

func offers(spoken []subprotocol) string {
	var tokens []string
	for _, p := range spoken {
		if p.head != nil {
			tokens = append(tokens, p.token)
		}
	}
	return strings.Join(tokens, " or ")
}

// refuseUpgrade answers 400 with the reason as text.
func refuseUpgrade(w http.ResponseWriter, reason string) {
	begin(w)
	w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455 4.4
	http.Error(w, "This is no WebSocket that can be served: "+reason+".", http.StatusBadRequest)
}
