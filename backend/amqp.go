package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/gorilla/websocket"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/door"
)

// DialAMQP opens an AMQP connection through one of the doors AMQP, AMQPWS and PlainAMQP.
func (b *Backend) DialAMQP(ctx context.Context, d door.Door) (*amqp.Conn, error) {
	stream, err := b.dial(ctx, d)
	if err != nil {
		return nil, err
	}
	conn, err := amqp.NewConn(ctx, stream, &amqp.ConnOptions{HostName: b.info.Hostname, SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		_ = stream.Close()
	}
	return conn, err
}

func (b *Backend) dial(ctx context.Context, d door.Door) (net.Conn, error) {
	switch d {
	case door.AMQPWS:
		return b.DialWebSocket(ctx, "AMQPWSB10")
	case door.AMQP:
		address, err := b.Address(d)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{Config: b.TLS()}).DialContext(ctx, "tcp", address)
	case door.PlainAMQP:
		address, err := b.Address(d)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	return nil, fmt.Errorf("the %s door speaks no AMQP", d)
}

// DialWebSocket opens a WebSocket on the HTTPS door and returns it as a byte stream.
func (b *Backend) DialWebSocket(ctx context.Context, subprotocol string) (net.Conn, error) {
	address, err := b.Address(door.HTTPS)
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{TLSClientConfig: b.TLS(), Subprotocols: []string{subprotocol}}
	u := url.URL{Scheme: "wss", Host: address, Path: "/$iothub/websocket"}
	ws, response, err := dialer.DialContext(ctx, u.String(), nil)
	if err != nil {
		if response != nil {
			_ = response.Body.Close()
			return nil, fmt.Errorf("%w: %s", err, response.Status)
		}
		return nil, err
	}
	return &stream{Conn: ws}, nil
}

// stream reads and writes binary WebSocket messages as one stream of bytes.
type stream struct {
	*websocket.Conn
	rest io.Reader
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.rest == nil {
			_, r, err := s.NextReader()
			if err != nil {
				return 0, err
			}
			s.rest = r
		}
		n, err := s.rest.Read(p)
		if errors.Is(err, io.EOF) {
			s.rest, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (s *stream) Write(p []byte) (int, error) {
	if err := s.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// PutToken authorises a connection through $cbs.
func PutToken(ctx context.Context, conn *amqp.Conn, token string) error {
	t, err := auth.ParseToken(token)
	if err != nil {
		return err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }()
	answers, err := session.NewReceiver(ctx, "$cbs", nil)
	if err != nil {
		return err
	}
	requests, err := session.NewSender(ctx, "$cbs", nil)
	if err != nil {
		return err
	}
	host, path, err := t.Scope()
	if err != nil {
		return err
	}
	replyTo, to := "cbs", "$cbs"
	if err := requests.Send(ctx, &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: "1", ReplyTo: &replyTo, To: &to},
		ApplicationProperties: map[string]any{"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": host + "/" + path},
		Value:                 token,
	}, nil); err != nil {
		return err
	}
	answer, err := answers.Receive(ctx, nil)
	if err != nil {
		return err
	}
	if status := answer.ApplicationProperties["status-code"]; status != int32(200) {
		return fmt.Errorf("put-token answered %v: %v", status, answer.ApplicationProperties["status-description"])
	}
	return answers.AcceptMessage(ctx, answer)
}

// openService opens a connection through the first open AMQP door, authorised for the policy.
func (b *Backend) openService(ctx context.Context) (*amqp.Conn, error) {
	var conn *amqp.Conn
	err := errors.New("no AMQP door is open")
	for _, d := range []door.Door{door.AMQP, door.AMQPWS, door.PlainAMQP} {
		if conn, err = b.DialAMQP(ctx, d); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	token, err := b.Token()
	if err == nil {
		err = PutToken(ctx, conn, token)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// SendC2D queues one cloud-to-device message.
func (b *Backend) SendC2D(ctx context.Context, deviceID string, m *amqp.Message) error {
	conn, err := b.openService(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	sender, err := session.NewSender(ctx, "/messages/devicebound", nil)
	if err != nil {
		return err
	}
	to := "/devices/" + url.PathEscape(deviceID) + "/messages/devicebound"
	if m.Properties == nil {
		m.Properties = &amqp.MessageProperties{}
	}
	m.Properties.To = &to
	return sender.Send(ctx, m, nil)
}
