package amqp10

import "errors"

var errSection = errors.New("amqp10: message section unknown, repeated or out of order")

// Decode replaces m by the message in payload. Data sections and binary values alias payload; the
// texts of one section share one copy. Sections must come in the
// order of AMQP 3.2, each at most once except data and amqp-sequence; all are optional, the body too.
func (m *Message) Decode(payload []byte, lim Limits) error {
	*m = Message{}
	d := newDecoder(payload, lim)
	for last := uint64(0); d.left() > 0; {
		section := d.descriptor()
		if section < last || section == last && section != descData && section != descSequence || !m.fits(section) {
			d.fail(errSection)
			break
		}
		last = section
		m.section(&d, section)
	}
	return d.err
}

// fits says whether the section may follow what is there: the three kinds of body exclude each other.
func (m *Message) fits(section uint64) bool {
	switch section {
	case descData:
		return m.Body == BodyNone || m.Body == BodyData
	case descSequence:
		return m.Body == BodyNone || m.Body == BodySequence
	case descValue:
		return m.Body == BodyNone
	}
	return section >= descHeader && section <= descFooter
}

func (m *Message) section(d *decoder, section uint64) {
	if d.values--; d.values < 0 {
		d.fail(errCount)
		return
	}
	if section == descData {
		m.Body = BodyData
		m.Data = append(m.Data, d.binaryField())
		return
	}
	at := d.pos
	d.skip()
	if d.err != nil {
		return
	}
	n := d.pos - at
	d.pos = at
	d.shareText(n)
	switch section {
	case descHeader:
		m.Header = decodeHeader(d)
	case descDeliveryAnnotations:
		m.DeliveryAnnotations = d.mapField()
	case descMessageAnnotations:
		m.MessageAnnotations = d.mapField()
	case descProperties:
		m.Properties = decodeProperties(d)
	case descApplicationProperties:
		m.ApplicationProperties = d.mapField()
	case descSequence:
		m.Body = BodySequence
		list, ok := d.value().(List)
		if !ok {
			d.fail(errSection)
		}
		m.Sequences = append(m.Sequences, list)
	case descValue:
		m.Body = BodyValue
		m.Value = d.value()
	case descFooter:
		m.Footer = d.mapField()
	}
}

func (d *decoder) binaryField() []byte {
	return d.binary(d.octets())
}

func decodeHeader(d *decoder) *Header {
	defer d.leave(d.enter())
	h := &Header{Priority: 4}
	h.Durable = d.has() && d.bool()
	if d.has() {
		h.Priority = d.ubyteField()
	}
	if d.has() {
		ttl := d.uintField()
		h.TTL = &ttl
	}
	h.FirstAcquirer = d.has() && d.bool()
	if d.has() {
		h.DeliveryCount = d.uintField()
	}
	return h
}

func decodeProperties(d *decoder) *Properties {
	defer d.leave(d.enter())
	p := new(Properties)
	if d.has() {
		p.MessageID = d.messageID()
	}
	if d.has() {
		p.UserID = d.binaryField()
	}
	for _, text := range []*string{&p.To, &p.Subject, &p.ReplyTo} {
		if d.has() {
			*text = d.textField()
		}
	}
	if d.has() {
		p.CorrelationID = d.messageID()
	}
	for _, text := range []*string{&p.ContentType, &p.ContentEncoding} {
		if d.has() {
			*text = d.textField()
		}
	}
	for _, t := range []**Timestamp{&p.AbsoluteExpiryTime, &p.CreationTime} {
		if d.has() {
			v := d.timestampField()
			*t = &v
		}
	}
	if d.has() {
		p.GroupID = d.textField()
	}
	if d.has() {
		v := d.uintField()
		p.GroupSequence = &v
	}
	if d.has() {
		p.ReplyToGroupID = d.textField()
	}
	return p
}

// messageID reads an id and keeps its type: replies must carry the same (AMQP 3.2.11 to 3.2.15). Other integers than
// ulong are taken as ulong.
func (d *decoder) messageID() any {
	switch v := d.value().(type) {
	case nil, uint64, UUID, []byte, string:
		return v
	case uint32:
		return uint64(v)
	case Symbol:
		return string(v)
	case int64:
		if v >= 0 {
			return uint64(v)
		}
	}
	d.fail(errors.New("amqp10: message-id is not a ulong, uuid, binary or string"))
	return nil
}
