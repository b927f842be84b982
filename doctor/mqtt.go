package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/go-amqp"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/iolite-emulator/iolite/door"
)

// mqtt sends telemetry as a device over MQTT and receives a cloud-to-device message.
func (p *patient) mqtt(ctx context.Context, d door.Door) error {
	options, err := p.mqttOptions(d)
	if err != nil {
		return err
	}
	client := mqtt.NewClient(options)
	if err := wait(ctx, client.Connect()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer client.Disconnect(250) // milliseconds for the goodbye to leave
	id := p.device.DeviceID
	if err := wait(ctx, client.Publish("devices/"+id+"/messages/events/"+property+"="+d.String(), 1, false, `{"from":"doctor"}`)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := p.await(ctx, d.String()); err != nil {
		return err
	}
	return p.c2d(ctx, client)
}

func (p *patient) mqttOptions(d door.Door) (*mqtt.ClientOptions, error) {
	listens, scheme, path := door.MQTT, "ssl", ""
	if d == door.MQTTWS {
		listens, scheme, path = door.HTTPS, "wss", "/$iothub/websocket"
	}
	address, err := p.backend.Address(listens)
	if err != nil {
		return nil, err
	}
	id := p.device.DeviceID
	token, err := p.backend.DeviceToken(id, p.device.Authentication.SymmetricKey.PrimaryKey)
	if err != nil {
		return nil, err
	}
	return mqtt.NewClientOptions().AddBroker(scheme + "://" + address + path).SetClientID(id).
		SetUsername(p.backend.Info().Hostname + "/" + id + "/?api-version=2021-04-12").SetPassword(token).
		SetTLSConfig(p.backend.TLS()).SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectTimeout(checkTimeout), nil
}

// c2d subscribes, sends the device a message and waits for it.
func (p *patient) c2d(ctx context.Context, client mqtt.Client) error {
	received := make(chan struct{}, 1)
	topic := "devices/" + p.device.DeviceID + "/messages/devicebound/"
	if err := wait(ctx, client.Subscribe(topic+"#", 1, func(mqtt.Client, mqtt.Message) { received <- struct{}{} })); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if err := p.backend.SendC2D(ctx, p.device.DeviceID, amqp.NewMessage([]byte("hello from doctor"))); err != nil {
		return fmt.Errorf("send to the device: %w", err)
	}
	select {
	case <-received:
		return nil
	case <-ctx.Done():
		return errors.New("the message for the device did not come")
	}
}

func wait(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}
