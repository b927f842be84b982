package amqpsrv

import (
	"github.com/iolite-emulator/iolite/amqp10"
)

// attachProducer refuses peers that want to send to the event hub: the built-in endpoint of an IoT hub takes what devices
// send, and nothing else (article "Read device-to-cloud messages from the built-in endpoint").
func (p *peer) attachProducer(a address) (amqp10.Node, *amqp10.Error) {
	if err := p.knownEntity(a.entity); err != nil {
		return nil, err
	}
	p.log.Warn("producers are refused: the built-in endpoint is read-only", "event hub", a.entity)
	return nil, &amqp10.Error{Condition: amqp10.CondNotAllowed,
		Description: "The built-in Event Hubs-compatible endpoint of an IoT hub is read-only: events come from devices."}
}
