package iolite

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// eventPolicy is the policy in the Event Hubs connection strings: the least that may read events.
const eventPolicy = "service"

// ConnectionString returns the service connection string of the policy iothubowner.
func (e *Emulator) ConnectionString() string {
	return policyConnectionString(e.options.Hostname, e.policy("iothubowner"))
}

// DeviceConnectionString returns the connection string of a SAS device or module with its primary key.
func (e *Emulator) DeviceConnectionString(ctx context.Context, key store.Key) (string, error) {
	d, err := e.hub.Admin().Identity(ctx, key)
	if err != nil {
		return "", err
	}
	if d.Authentication.Type != store.AuthSAS {
		return "", fmt.Errorf("%s proves itself with %s, not with a key", key, d.Authentication.Type)
	}
	return deviceConnectionString(e.options.Hostname, key, d.Authentication.PrimaryKey), nil
}

// EventHubsConnectionString returns the connection string of the Event Hubs-compatible endpoint over TLS.
func (e *Emulator) EventHubsConnectionString() string {
	return e.eventHubs(e.hostPort(door.AMQP, AMQPPort), "")
}

// EmulatorConnectionString returns the connection string of the same endpoint over plain AMQP.
func (e *Emulator) EmulatorConnectionString() string {
	return e.eventHubs(e.hostPort(door.PlainAMQP, EventHubPort), "UseDevelopmentEmulator=true;")
}

func (e *Emulator) eventHubs(host, flag string) string {
	p := e.policy(eventPolicy)
	return "Endpoint=sb://" + host + "/;" + flag + "SharedAccessKeyName=" + p.Name + ";SharedAccessKey=" + p.PrimaryKey + ";EntityPath=" + e.hub.Name()
}

// hostPort returns the host name, with the door's port when it is not the usual one.
func (e *Emulator) hostPort(d door.Door, usual Port) string {
	p := e.Port(d)
	if p == 0 || p == int(usual) {
		return e.options.Hostname
	}
	return net.JoinHostPort(e.options.Hostname, strconv.Itoa(p))
}

// policy returns one of the documented policies, which always exist.
func (e *Emulator) policy(name string) auth.Policy {
	for _, p := range e.hub.Policies() {
		if p.Name == name {
			return p
		}
	}
	return auth.Policy{}
}

// Port returns the port that a door is bound to, 0 when it is shut.
func (e *Emulator) Port(d door.Door) int {
	for _, o := range e.doors {
		if o.Door() == d {
			return o.Addr().Port
		}
	}
	return 0
}

// Info describes the running emulator.
func (e *Emulator) Info() control.Info {
	o := &e.options
	info := control.Info{
		Version: o.Version, Hub: e.hub.Name(), Hostname: o.Hostname, Bind: o.Bind,
		ConnectionString: e.ConnectionString(), EventHubsConnectionString: e.EventHubsConnectionString(), EmulatorConnectionString: e.EmulatorConnectionString(),
		StorageConnectionString: e.StorageConnectionString(),
		Auth:                    "strict", Poll: string(o.HTTPPoll), PollIn: o.HTTPPollInterval.String(), Devices: e.deviceConnections(),
	}
	if e.control != nil {
		info.Control = e.control.Addr().String()
	}
	if o.AuthOff {
		info.Auth = "off"
	}
	if o.CertsDir != "" {
		info.CA = e.ca.Path()
	}
	for _, d := range e.doors {
		info.Doors = append(info.Doors, control.Door{Name: d.Door().String(), Port: d.Addr().Port, Moved: d.moved})
	}
	for _, p := range e.hub.Policies() {
		info.Policies = append(info.Policies, control.PolicyInfo{Name: p.Name, PrimaryKey: p.PrimaryKey, SecondaryKey: p.SecondaryKey,
			ConnectionString: policyConnectionString(o.Hostname, p)})
	}
	return info
}

// deviceConnections lists the devices made at start that still exist.
func (e *Emulator) deviceConnections() []control.DeviceConnection {
	names := make([]string, 0, len(e.options.Devices)+len(e.seed.Devices))
	for i := range e.seed.Devices {
		names = append(names, e.seed.Devices[i].ID)
	}
	names = append(names, e.options.Devices...)
	list := []control.DeviceConnection{}
	for _, name := range names {
		if text, ok := e.connectionOf(name); ok {
			list = append(list, control.DeviceConnection{DeviceID: name, ConnectionString: text})
		}
	}
	return list
}

// connectionOf returns a device's connection string, empty for one without a key; ok is false when it is gone.
func (e *Emulator) connectionOf(deviceID string) (text string, ok bool) {
	key := store.Key{DeviceID: deviceID}
	d, err := e.hub.Admin().Identity(context.Background(), key)
	if err != nil {
		return "", false
	}
	if d.Authentication.Type != store.AuthSAS {
		return "", true
	}
	return deviceConnectionString(e.options.Hostname, key, d.Authentication.PrimaryKey), true
}

func policyConnectionString(host string, p auth.Policy) string {
	return "HostName=" + host + ";SharedAccessKeyName=" + p.Name + ";SharedAccessKey=" + p.PrimaryKey
}

func deviceConnectionString(host string, key store.Key, secret string) string {
	text := "HostName=" + host + ";DeviceId=" + key.DeviceID
	if key.ModuleID != "" {
		text += ";ModuleId=" + key.ModuleID
	}
	return text + ";SharedAccessKey=" + secret
}

// CreateDevice registers a SAS device with derived keys and returns its connection string.
func (e *Emulator) CreateDevice(ctx context.Context, deviceID string) (connectionString string, err error) {
	key := store.Key{DeviceID: deviceID}
	d, err := e.hub.Admin().CreateIdentity(ctx, identity(key, seedAuthentication{}))
	if err != nil {
		return "", err
	}
	return deviceConnectionString(e.options.Hostname, key, d.Authentication.PrimaryKey), nil
}

// Violations returns the HTTP poll violations so far.
func (e *Emulator) Violations() []hub.Violation { return e.hub.Violations() }
