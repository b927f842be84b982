package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/iolite-emulator/iolite/amqp10"
)

// claim is a token and whom it is for.
type claim struct{ audience, token string }

// putTokens authorises the connection through $cbs, on the handles from first on, and returns the next free delivery-id.
func (c *amqpConn) putTokens(first uint32, claims []claim) (next uint32, err error) {
	setup := append(attachFrame(first, false, "$cbs", nil), attachFrame(first+1, true, "$cbs", nil)...)
	if _, err := c.nc.Write(append(setup, creditFrame(first+1, 0, uint32(len(claims)))...)); err != nil {
		return 0, err
	}
	if _, err := c.expect(descFlow); err != nil {
		return 0, err
	}
	for i, claim := range claims {
		if err := c.putToken(first, uint32(i), claim); err != nil {
			return 0, fmt.Errorf("put-token for %s: %w", claim.audience, err)
		}
	}
	return uint32(len(claims)), nil
}

func (c *amqpConn) putToken(handle, id uint32, claim claim) error {
	request := amqp10.Message{
		Properties: &amqp10.Properties{MessageID: fmt.Sprint(id), To: "$cbs", ReplyTo: "cbs"},
		ApplicationProperties: amqp10.Map{{Key: "operation", Value: "put-token"},
			{Key: "type", Value: "servicebus.windows.net:sastoken"}, {Key: "name", Value: claim.audience}},
		Body: amqp10.BodyValue, Value: claim.token,
	}
	payload, err := request.Append(nil)
	if err != nil {
		return err
	}
	if _, err := c.nc.Write(transferFrame(handle, id, payload)); err != nil {
		return err
	}
	reply, err := c.expect(descTransfer)
	if err != nil {
		return err
	}
	var answer amqp10.Message
	if err := answer.Decode(reply.payload, amqp10.Limits{}); err != nil {
		return err
	}
	if status := answer.ApplicationProperties.Get("status-code"); status != int32(200) {
		return fmt.Errorf("status-code %v: %v", status, answer.ApplicationProperties.Get("status-description"))
	}
	return nil
}

// transferFrame is one message, unsettled. Its delivery-id stands at transferID.
func transferFrame(handle, id uint32, payload []byte) []byte {
	return frame(newList(descTransfer).uint(handle).uint(id).binary([]byte{byte(id >> 8), byte(id)}).uint(0).bool(false), payload)
}

// transferID is where the delivery-id's four bytes stand in a transferFrame: frame header, list header, handle, constructor.
const transferID = 8 + 12 + 5 + 1

// amqpSender sends unsettled messages that were encoded once, on one link or on several in turn.
type amqpSender struct {
	c     *amqpConn
	out   io.Writer // where transfers go, dressed for the transport already
	links [][]byte  // for each, maxBurst transfers
	size  int       // of one
	idAt  int       // where the delivery-id stands in one
	link  int       // the next to send on
	id    uint32    // the next delivery-id
	first uint32    // that is telemetry
}

// newAMQPSender attaches a link to each address and waits until all may send telemetry.
func newAMQPSender(c *amqpConn, id uint32, addresses []string) (*amqpSender, error) {
	return newAMQPSenderOf(c, id, addresses, amqp10.Message{Body: amqp10.BodyData, Data: [][]byte{body}})
}

// newAMQPSenderOf does the same for another message.
func newAMQPSenderOf(c *amqpConn, id uint32, addresses []string, message amqp10.Message) (*amqpSender, error) {
	payload, err := message.Append(nil)
	if err != nil {
		return nil, err
	}
	s := &amqpSender{c: c, out: c.nc, id: id, first: id}
	dress := unframed
	if ws, ok := c.nc.(framing); ok {
		s.out, dress = ws.webSocket, asFrame
	}
	for i, address := range addresses {
		transfer := transferFrame(uint32(i), 0, payload)
		packet := dress(transfer)
		s.links, s.size, s.idAt = append(s.links, bytes.Repeat(packet, maxBurst)), len(packet), len(packet)-len(transfer)+transferID
		if _, err := c.nc.Write(attachFrame(uint32(i), false, address, nil)); err != nil {
			return nil, err
		}
	}
	for credited := 0; credited < len(addresses); {
		p, err := c.expect(descFlow)
		if err != nil {
			return nil, err
		}
		var fields [5]uint32
		if null, err := p.uints(fields[:]); err != nil {
			return nil, err
		} else if null&(1<<4) == 0 && fields[4] < uint32(len(addresses)) {
			credited++
		}
	}
	return s, nil
}

func (s *amqpSender) send(n int) error {
	burst := s.links[s.link]
	s.link = (s.link + 1) % len(s.links)
	for i := range n {
		binary.BigEndian.PutUint32(burst[i*s.size+s.idAt:], s.id)
		s.id++
	}
	_, err := s.out.Write(burst[:n*s.size])
	return err
}

func (s *amqpSender) acks() (int, error) {
	for {
		p, err := s.c.next()
		if err != nil {
			return 0, err
		}
		acks, err := s.count(p)
		for err == nil && p.descriptor != 0 { // what came with it
			var more int
			if p, err = s.c.buffered(); err == nil {
				more, err = s.count(p)
				acks += more
			}
		}
		if err != nil || acks > 0 {
			return acks, err
		}
	}
}

// accepted is the descriptor of the delivery state of that name (AMQP 3.4.2).
var accepted = []byte{0, 0x53, 0x24}

// count returns how many telemetry messages a disposition settles.
func (s *amqpSender) count(p performative) (int, error) {
	if p.descriptor != descDisposition {
		return 0, nil
	}
	var fields [3]uint32 // role, first, last
	null, err := p.uints(fields[:])
	if err != nil {
		return 0, err
	}
	if null&(1<<2) != 0 {
		fields[2] = fields[1]
	}
	if int32(fields[2]-s.first) < 0 {
		return 0, nil
	}
	if !bytes.Contains(p.fields, accepted) {
		return 0, fmt.Errorf("not accepted: %q", p.fields)
	}
	return int(fields[2]-fields[1]) + 1, nil
}

func (s *amqpSender) close() { _ = s.c.nc.Close() }
