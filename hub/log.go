package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// Peer is who gets an answer, as far as a head knows: what a log line says of it.
type Peer struct {
	Conn     *door.Conn
	Key      store.Key // the identity on the connection, or of the request; zero when none
	Category Category  // of what was asked for, when the error does not know it
}

// Answer returns err as the hub error to render, and writes the one log line about it: with the tracking id that the peer is told, category and
// operation, who it was, and the cause, which the peer is not told. Every error that a head answers goes through it, once.
func (h *Hub) Answer(p Peer, err error, attrs ...slog.Attr) *Error {
	e, _ := AsError(err)
	if e.logged {
		return e
	}
	ctx, level, message := context.Background(), severity(e), "request refused"
	if !h.log.Enabled(ctx, level) {
		return e
	}
	switch {
	case e.Code == CodeNotImplemented:
		message = "not implemented"
	case e.Status >= 500:
		message = "request failed"
	}
	line := p.about(err)
	line = append(line, slog.Int("resultType", int(e.Code)), slog.String("resultDescription", e.Name), slog.Int("statusCode", e.Status),
		slog.String("error", e.Text), slog.String("trackingId", e.TrackingID))
	if e.cause != nil {
		line = append(line, slog.Any("cause", e.cause))
	}
	h.log.LogAttrs(ctx, level, message, append(line, attrs...)...)
	return e
}

// severity is the level of an error's line. The real hub logs errors at Error; those that are nobody's fault are Iolite's own.
func severity(e *Error) slog.Level {
	if e.Code == CodeClosed || e.Code == CodeClientClosed {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// about says what had been asked for, and by whom.
func (p Peer) about(err error) []slog.Attr {
	known := failure{key: p.Key}
	if f := (*failure)(nil); errors.As(err, &f) {
		known = *f
		if known.key == (store.Key{}) {
			known.key = p.Key
		}
	}
	line := about(known.op, known.key)
	if known.op == opNone && p.Category != "" {
		line = slices.Insert(line, 0, slog.String("category", string(p.Category)))
	}
	return append(line, connectionAttrs(p.Conn)...)
}

// connectionAttrs are the attributes door and remote.
func connectionAttrs(c *door.Conn) []slog.Attr {
	if c == nil {
		return nil
	}
	return []slog.Attr{slog.String("door", c.Door().String()), slog.String("remote", remote(c))}
}

// logs reports whether anybody reads lines of a level: most tests do not, and should not pay for them.
func (s *DeviceSession) logs(level slog.Level) bool {
	return s.hub.log.Enabled(context.Background(), level)
}

// logConnect says that an identity is connected. IoT Hub: deviceConnect, at Information.
func (s *DeviceSession) logConnect(p auth.Principal) {
	attrs := append(connectionAttrs(s.options.Conn), slog.String("authType", authMethod(p, s.key)), slog.String("sdkVersion", s.options.UserAgent))
	s.hub.note(slog.LevelInfo, opConnect, s.key, "connected", attrs...)
}

// logDisconnect says that it is not any more, and why. IoT Hub: deviceDisconnect, at Error unless the client said goodbye.
func (s *DeviceSession) logDisconnect(why *Error) {
	attrs := connectionAttrs(s.options.Conn)
	level := slog.LevelInfo
	if why != errSessionClosed {
		attrs = append(attrs, slog.Int("resultType", int(why.Code)), slog.String("resultDescription", why.Name), slog.String("error", why.Text),
			slog.String("trackingId", why.TrackingID))
		if why.cause != nil {
			attrs = append(attrs, slog.Any("cause", why.cause))
		}
		level = severity(why)
	}
	s.hub.note(level, opDisconnect, s.key, "disconnected", attrs...)
}
