package amqp10

import (
	"errors"
	"fmt"
	"slices"
)

// Protocol ids in the header (AMQP 2.2, 5.3.1).
const (
	protocolAMQP byte = 0
	protocolSASL byte = 3

	headerSize = 8
)

var (
	errHeader = errors.New("amqp10: client speaks another protocol")
	errSASL   = errors.New("amqp10: SASL failed")
)

// handshake exchanges protocol headers, with a SASL layer when the client begins one, up to the point where open is
// expected. Clients may send ahead: what is unread stays in the input.
func (c *Conn) handshake() error {
	id, err := c.readHeader(protocolAMQP, protocolSASL)
	if err != nil {
		return err
	}
	if id == protocolSASL {
		if err := c.sasl(); err != nil {
			return err
		}
		if _, err := c.readHeader(protocolAMQP); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.phase = phaseOpening
	c.mu.Unlock()
	return nil
}

// readHeader reads a protocol header and answers it: with the same when its id is among allowed, otherwise with one we
// support, after which the connection must end (AMQP 2.2).
func (c *Conn) readHeader(allowed ...byte) (id byte, err error) {
	for len(c.in.unread()) < headerSize {
		if err := c.fill(headerSize); err != nil {
			return 0, err
		}
	}
	h := c.in.unread()[:headerSize]
	id = h[4]
	known := string(h[:4]) == "AMQP" && slices.Contains(allowed, id)
	if !known || h[5] != 1 || h[6] != 0 || h[7] != 0 {
		err = fmt.Errorf("%w: header %q", errHeader, h)
	}
	if !known {
		id = allowed[0]
	}
	c.in.consume(headerSize)
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.output()
	out.b = append(out.b, 'A', 'M', 'Q', 'P', id, 1, 0, 0)
	return id, err
}

// sasl lets the client authenticate with a mechanism of one step (AMQP 5.3.2).
func (c *Conn) sasl() error {
	c.writeSASL(descSASLMechanisms, func(f *fields) {
		mechanisms := make([]Symbol, len(c.cfg.Mechanisms))
		for i, m := range c.cfg.Mechanisms {
			mechanisms[i] = Symbol(m)
		}
		f.optSymbols(mechanisms)
	})
	f, err := c.readFrame(maxSASLFrame)
	if perr := (*Error)(nil); errors.As(err, &perr) {
		return fmt.Errorf("%w: %w", errSASL, err)
	}
	if err != nil {
		return err
	}
	mechanism, response, err := c.saslInit(f)
	if err != nil {
		return fmt.Errorf("%w: %w", errSASL, err)
	}
	code := SASLAuth
	if slices.Contains(c.cfg.Mechanisms, mechanism) {
		c.calls.Lock()
		code = c.peer.SASL(mechanism, response)
		c.calls.Unlock()
	}
	c.writeSASL(descSASLOutcome, func(f *fields) { f.ubyte(uint8(code)) })
	if code != SASLOK {
		return fmt.Errorf("%w: %q refused with code %d", errSASL, mechanism, code)
	}
	return nil
}

func (c *Conn) saslInit(f frame) (mechanism string, response []byte, err error) {
	d := newDecoder(f.body, c.cfg.limits())
	if desc := d.descriptor(); f.typ != frameSASL || desc != descSASLInit {
		return "", nil, fmt.Errorf("frame type %d with 0x%02x instead of sasl-init", f.typ, desc)
	}
	s := d.enter()
	if d.has() {
		mechanism = d.textField()
	}
	if d.has() {
		response = d.octets()
	}
	d.leave(s)
	return mechanism, response, d.err
}

func (c *Conn) writeSASL(desc byte, body func(*fields)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.output()
	b, start := openFrame(out.b, frameSASL, 0)
	f := openFields(b, desc)
	body(&f)
	out.b = closeFrame(f.close(), start)
}
