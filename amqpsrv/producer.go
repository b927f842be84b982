package amqpsrv

import (
	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// attachProducer refuses peers that want to send to an event hub: the built-in endpoint of an IoT hub takes what devices
// send, and nothing else (article "Read device-to-cloud messages from the built-in endpoint").
func (p *peer) attachProducer(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	if err := p.srv.hub.HasEventHub(a.entity); err != nil {
		return nil, p.asError(err)
	}
	p.log.Warn("producers are refused: the endpoint is read-only", "event hub", a.entity)
	return nil, p.asError(p.srv.hub.NewError(hub.CodeSendClaimRequired, "sb://"+p.hostname(l)+"/"+a.path))
}
