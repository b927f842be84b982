package amqp10

import (
	"fmt"
	"slices"
)

// Append appends the encoded message to dst. It fails only when a value has a Go type that AMQP has no type for. A message
// without a body is encoded without one.
func (m *Message) Append(dst []byte) ([]byte, error) {
	dst = slices.Grow(dst, m.roughSize())
	if m.Header != nil {
		dst = m.Header.append(dst)
	}
	var err error
	if dst, err = appendMapSection(dst, descDeliveryAnnotations, m.DeliveryAnnotations, err); err != nil {
		return dst, err
	}
	if dst, err = appendMapSection(dst, descMessageAnnotations, m.MessageAnnotations, err); err != nil {
		return dst, err
	}
	if m.Properties != nil {
		if dst, err = m.Properties.append(dst); err != nil {
			return dst, err
		}
	}
	if dst, err = appendMapSection(dst, descApplicationProperties, m.ApplicationProperties, err); err != nil {
		return dst, err
	}
	if dst, err = m.appendBody(dst); err != nil {
		return dst, err
	}
	return appendMapSection(dst, descFooter, m.Footer, err)
}

// roughSize is what an encoding without great surprises takes.
func (m *Message) roughSize() int {
	n := 64 + 64*(len(m.MessageAnnotations)+len(m.ApplicationProperties))
	if m.Properties != nil {
		n += 192
	}
	for _, data := range m.Data {
		n += len(data) + 8
	}
	return n
}

func openSection(b []byte, desc byte) []byte { return append(b, codeDescribed, codeSmallUlong, desc) }

func appendMapSection(b []byte, desc byte, m Map, err error) ([]byte, error) {
	if len(m) == 0 || err != nil {
		return b, err
	}
	if b, err = appendMap(openSection(b, desc), m); err != nil {
		return b, fmt.Errorf("section 0x%02x: %w", desc, err)
	}
	return b, nil
}

func (m *Message) appendBody(b []byte) ([]byte, error) {
	var err error
	switch m.Body {
	case BodyData:
		for _, data := range m.Data {
			b = appendBinary(openSection(b, descData), data)
		}
	case BodySequence:
		for _, list := range m.Sequences {
			if b, err = appendList(openSection(b, descSequence), list); err != nil {
				return b, fmt.Errorf("amqp-sequence: %w", err)
			}
		}
	case BodyValue:
		if b, err = AppendValue(openSection(b, descValue), m.Value); err != nil {
			return b, fmt.Errorf("amqp-value: %w", err)
		}
	}
	return b, nil
}

func (h *Header) append(b []byte) []byte {
	f := openFields(b, descHeader)
	f.optTrue(h.Durable)
	if h.Priority != 4 {
		f.ubyte(h.Priority)
	} else {
		f.null()
	}
	if h.TTL != nil {
		f.uint(*h.TTL)
	} else {
		f.null()
	}
	f.optTrue(h.FirstAcquirer)
	f.optUint(opt32{h.DeliveryCount, h.DeliveryCount != 0})
	return f.close()
}

func (p *Properties) append(b []byte) ([]byte, error) {
	f := openFields(b, descProperties)
	f.value(p.MessageID)
	if len(p.UserID) > 0 {
		f.binary(p.UserID)
	} else {
		f.null()
	}
	f.optText(p.To)
	f.optText(p.Subject)
	f.optText(p.ReplyTo)
	f.value(p.CorrelationID)
	f.optSymbol(Symbol(p.ContentType))
	f.optSymbol(Symbol(p.ContentEncoding))
	f.optTimestamp(p.AbsoluteExpiryTime)
	f.optTimestamp(p.CreationTime)
	f.optText(p.GroupID)
	if p.GroupSequence != nil {
		f.uint(*p.GroupSequence)
	} else {
		f.null()
	}
	f.optText(p.ReplyToGroupID)
	return f.close(), f.err
}

func (f *fields) optTimestamp(t *Timestamp) {
	if t == nil {
		f.null()
		return
	}
	f.b = appendTimestamp(f.b, *t)
	f.wrote()
}
