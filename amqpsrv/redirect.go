package amqpsrv

import (
	"fmt"
	"net"

	"github.com/iolite-emulator/iolite/amqp10"
)

// redirect refuses a link to the hub's own messages/events and tells where the Event Hubs-compatible endpoint is: here, under
// the event hub's name. amenzhinsky/iothub cuts the address between ":5671/" and its last character, so it ends with a slash.
func (p *peer) redirect(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	s, err := p.service(l, a.path)
	if err != nil {
		return nil, err
	}
	p.leaveService(s)
	host := p.hostname(l)
	path := p.srv.hub.Name() + "/"
	if a.tail != "" {
		path += a.tail + "/"
	}
	return nil, &amqp10.Error{
		Condition:   amqp10.CondLinkRedirect,
		Description: "The events are read from the Event Hubs-compatible endpoint.",
		Info: amqp10.Map{
			{Key: amqp10.Symbol("hostname"), Value: host},
			{Key: amqp10.Symbol("network-host"), Value: host},
			{Key: amqp10.Symbol("port"), Value: p.srv.cfg.Port},
			{Key: amqp10.Symbol("address"), Value: fmt.Sprintf("amqps://%s:%d/%s", host, p.srv.cfg.Port, path)},
		},
	}
}

// hostname is the name by which the peer reached us, if it said one.
func (p *peer) hostname(l *amqp10.Link) string {
	o := l.Conn().Open()
	if o == nil || o.Hostname == "" {
		return p.srv.cfg.Hostname
	}
	if host, _, err := net.SplitHostPort(o.Hostname); err == nil {
		return host
	}
	return o.Hostname
}
