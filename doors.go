package iolite

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/iolite-emulator/iolite/door"
)

// wantedDoor is a door that options ask for.
type wantedDoor struct {
	door door.Door
	port Port
	tls  *tls.Config // nil for a door without TLS
}

// openDoors binds every port; nothing is accepted before serve is called. Close closes what was opened when one fails.
func (e *Emulator) openDoors(ctx context.Context) error {
	o := &e.options
	for _, w := range []wantedDoor{
		{door.MQTT, o.MQTT, e.ca.TLSConfig()}, // one configuration each: session tickets of one door are no good at another
		{door.AMQP, o.AMQP, e.ca.TLSConfig()},
		{door.HTTPS, o.HTTPS, e.ca.TLSConfig()},
		{door.PlainAMQP, o.EventHub, nil},
	} {
		if w.port == Off {
			continue
		}
		l, err := e.openDoor(ctx, w)
		if err != nil {
			return err
		}
		e.doors = append(e.doors, openedDoor{l, w.port != AnyPort && int(w.port) != l.Addr().Port})
	}
	return nil
}

// head returns who stands behind a door.
func (e *Emulator) head(d door.Door) func(*door.Conn) {
	switch d {
	case door.MQTT:
		return e.broker.Serve
	case door.HTTPS:
		return e.http.Serve
	}
	return e.amqp.Serve
}

// openDoor binds one port. A port that we have no right to is replaced by a free one unless ports are strict; one that is taken
// is an error, for no SDK would look elsewhere and the other program would get our clients.
func (e *Emulator) openDoor(ctx context.Context, w wantedDoor) (*door.Listener, error) {
	l, err := door.Listen(ctx, w.door, e.address(w.port), w.tls, e.log)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: another program holds port %d; stop it, or use another --bind address such as 127.0.0.2", err, w.port)
	case !errors.Is(err, os.ErrPermission):
		return nil, err
	case e.options.StrictPorts:
		return nil, fmt.Errorf("%w: to allow it: %s", err, grantCommand())
	}
	l, err = door.Listen(ctx, w.door, e.address(AnyPort), w.tls, e.log)
	if err != nil {
		return nil, err
	}
	e.log.Warn("no right to bind the documented port: SDKs will not find this door where it is now", "door", w.door.String(),
		"wanted", int(w.port), "bound", l.Addr().Port, "remedy", grantCommand())
	return l, nil
}

func (e *Emulator) address(p Port) string {
	return net.JoinHostPort(e.options.Bind, strconv.Itoa(int(p)))
}

// grantCommand returns the command that lets this program bind ports below 1024.
func grantCommand() string {
	program, err := os.Executable()
	if err != nil {
		program = "emulator"
	}
	if runtime.GOOS == "linux" {
		return "sudo setcap cap_net_bind_service=+ep " + strconv.Quote(program) + " (or: sudo sysctl net.ipv4.ip_unprivileged_port_start=443)"
	}
	return "run " + strconv.Quote(program) + " as administrator"
}

func (e *Emulator) closeDoors() {
	for _, d := range e.doors {
		d.Close()
	}
}
