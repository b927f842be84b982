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
	tls  bool
	head func(*door.Conn)
}

// openDoors binds every port; nothing is accepted before serve is called. On failure it closes what it opened.
func (e *Emulator) openDoors(ctx context.Context, config *tls.Config) error {
	o := &e.options
	for _, w := range []wantedDoor{
		{door.MQTT, o.MQTT, true, e.broker.Serve},
		{door.AMQP, o.AMQP, true, e.amqp.Serve},
		{door.HTTPS, o.HTTPS, true, e.http.Serve},
		{door.PlainAMQP, o.EventHub, false, e.amqp.Serve},
	} {
		if w.port == Off {
			continue
		}
		var t *tls.Config
		if w.tls {
			t = config
		}
		l, err := e.openDoor(ctx, w, t)
		if err != nil {
			e.closeDoors()
			return err
		}
		e.doors = append(e.doors, openedDoor{Listener: l, head: w.head, moved: w.port != AnyPort && int(w.port) != l.Addr().Port, wanted: int(w.port)})
	}
	return nil
}

// openDoor binds one port. A port that we have no right to is replaced by a free one unless ports are strict; one that is taken
// is an error, for no SDK would look elsewhere and the other program would get our clients.
func (e *Emulator) openDoor(ctx context.Context, w wantedDoor, config *tls.Config) (*door.Listener, error) {
	l, err := door.Listen(ctx, w.door, e.address(w.port), config, e.log)
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
	l, err = door.Listen(ctx, w.door, e.address(AnyPort), config, e.log)
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
