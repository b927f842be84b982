package doctor

import (
	"context"
	"net/url"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// amqp sends telemetry as a device over AMQP.
func (p *patient) amqp(ctx context.Context, d door.Door) error {
	conn, err := p.backend.DialAMQP(ctx, d)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	token, err := p.backend.DeviceToken(p.device.DeviceID, p.device.Authentication.SymmetricKey.PrimaryKey)
	if err != nil {
		return err
	}
	if err := backend.PutToken(ctx, conn, token); err != nil {
		return err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	sender, err := session.NewSender(ctx, "/devices/"+url.PathEscape(p.device.DeviceID)+"/messages/events", nil)
	if err != nil {
		return err
	}
	m := amqp.NewMessage([]byte(`{"from":"doctor"}`))
	m.ApplicationProperties = map[string]any{property: d.String()}
	if err := sender.Send(ctx, m, nil); err != nil {
		return err
	}
	return p.await(ctx, d.String())
}

// plain connects without TLS and shows a token, as Event Hubs clients with UseDevelopmentEmulator=true do.
func (p *patient) plain(ctx context.Context) error {
	conn, err := p.backend.DialAMQP(ctx, door.PlainAMQP)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	token, err := p.backend.Token()
	if err != nil {
		return err
	}
	return backend.PutToken(ctx, conn, token)
}
