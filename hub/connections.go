package hub

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// Connection describes a connected device or module.
type Connection struct {
	store.Key
	Door      string // door.Door.String
	Remote    string
	Since     time.Time
	UserAgent string
	Method    auth.Method
	BytesIn   int64 // of the whole connection, which AMQP devices may share
	BytesOut  int64
}

// Connections lists the connected devices and modules, by id.
func (h *Hub) Connections() []Connection {
	var list []Connection
	for _, key := range h.peerKeys() {
		p := h.findPeer(key)
		if p == nil {
			continue
		}
		if p.session != nil {
			list = append(list, p.session.connection())
		}
		h.unlockPeer(p)
	}
	slices.SortFunc(list, func(a, b Connection) int {
		return cmp.Or(strings.Compare(a.DeviceID, b.DeviceID), strings.Compare(a.ModuleID, b.ModuleID))
	})
	return list
}

// connection describes the session. The caller holds the peer's lock.
func (s *DeviceSession) connection() Connection {
	c := Connection{Key: s.key, Since: s.since, UserAgent: s.options.UserAgent, Method: s.method}
	if conn := s.options.Conn; conn != nil {
		c.Door, c.Remote = conn.Door().String(), remote(conn)
		c.BytesIn, c.BytesOut = conn.BytesIn(), conn.BytesOut()
	}
	return c
}

// remote returns the peer's address, or "" for no connection.
func remote(c *door.Conn) string {
	if c == nil || c.RemoteAddr() == nil {
		return ""
	}
	return c.RemoteAddr().String()
}

// Disconnect ends the sessions of a device and its modules, cutting connections that only they use, and returns how many. A connection is
// cut before its sessions end, so that nobody says goodbye on it: half a goodbye keeps the Node SDK waiting for the other half, 45 s long.
func (h *Hub) Disconnect(deviceID string) int {
	keys, err := h.deviceKeys(context.Background(), deviceID)
	if err != nil {
		h.log.Error("the modules of a device cannot be listed", "category", Connections, "deviceId", deviceID, "error", err)
	}
	sessions := h.sessionsOf(keys)
	shared := h.connsInUse(keys)
	for _, s := range sessions {
		if c := s.options.Conn; c != nil && !shared[c] {
			c.Cut()
		}
	}
	for key, s := range sessions {
		if p := h.findPeer(key); p != nil {
			p.end(s, h.NewError(CodeClosed, "the connection was cut by the control API"))
			h.unlockPeer(p)
		}
	}
	return len(sessions)
}

// sessionsOf returns the sessions that identities have now.
func (h *Hub) sessionsOf(keys []store.Key) map[store.Key]*DeviceSession {
	sessions := map[store.Key]*DeviceSession{}
	for _, key := range keys {
		if p := h.findPeer(key); p != nil {
			if p.session != nil {
				sessions[key] = p.session
			}
			h.unlockPeer(p)
		}
	}
	return sessions
}

// connsInUse returns the connections that carry a session of anybody but the identities of others.
func (h *Hub) connsInUse(others []store.Key) map[*door.Conn]bool {
	keys := slices.DeleteFunc(h.peerKeys(), func(key store.Key) bool { return slices.Contains(others, key) })
	used := map[*door.Conn]bool{}
	for _, s := range h.sessionsOf(keys) {
		used[s.options.Conn] = true
	}
	return used
}
