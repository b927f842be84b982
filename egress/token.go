package egress

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/Azure/go-amqp"
)

// tokenLife is how long the tokens are good for that an entity puts; it puts a new one at half of that.
const tokenLife = time.Hour

// audience is what a token is for: the entity's URL (article "Authenticate access to Event Hubs with shared access signatures").
func (e *entity) audience() string { return "amqp://" + e.name + "/" + e.path }

// sign returns a shared access signature for the entity. Unlike IoT Hub's keys, those of Event Hubs and Service Bus are used as the text
// they are.
func (e *entity) sign(until time.Time) string {
	resource, expiry := url.QueryEscape(e.audience()), strconv.FormatInt(until.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(e.key))
	mac.Write([]byte(resource + "\n" + expiry))
	return "SharedAccessSignature sr=" + resource + "&sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))) + "&se=" + expiry + "&skn=" + url.QueryEscape(e.keyName)
}

// putToken authorises the connection through $cbs (AMQP Claims-based Security 1.0).
func (e *entity) putToken(ctx context.Context, conn *amqp.Conn, token string) error {
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }()
	const replyTo = "cbs"
	answers, err := session.NewReceiver(ctx, "$cbs", &amqp.ReceiverOptions{TargetAddress: replyTo})
	if err != nil {
		return err
	}
	requests, err := session.NewSender(ctx, "$cbs", nil)
	if err != nil {
		return err
	}
	to := replyTo
	if err := requests.Send(ctx, &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: "1", ReplyTo: &to},
		ApplicationProperties: map[string]any{"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": e.audience()},
		Value:                 token,
	}, nil); err != nil {
		return err
	}
	answer, err := answers.Receive(ctx, nil)
	if err != nil {
		return err
	}
	if err := answers.AcceptMessage(ctx, answer); err != nil {
		return err
	}
	if status := statusOf(answer); status < 200 || status > 299 {
		return &Error{Kind: Unauthorized, Err: fmt.Errorf("put-token was answered with status %d", status)}
	}
	return nil
}

// statusOf returns the status-code of an answer, 0 when there is none.
func statusOf(answer *amqp.Message) int64 {
	switch status := answer.ApplicationProperties["status-code"].(type) {
	case int32:
		return int64(status)
	case int64:
		return status
	}
	return 0
}
