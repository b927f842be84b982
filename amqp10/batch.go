package amqp10

import (
	"errors"
	"iter"
)

// BatchFormat is the message-format of Azure's batches: an envelope whose body is data sections, each holding one
// complete encoded message.
const BatchFormat uint32 = 0x80013700

var errNoBatch = errors.New("amqp10: batch body is not made of data sections")

// SplitBatch returns the encoded messages in a batch, in order, aliasing payload, without decoding them or the
// envelope's sections. It fails when payload is no batch: no data section, or another kind of body.
func SplitBatch(payload []byte, lim Limits) ([][]byte, error) {
	lim = lim.orDefault()
	d := newDecoder(payload, lim)
	var out [][]byte
	for d.left() > 0 {
		switch section := d.descriptor(); {
		case section == descData:
			out = append(out, d.binaryField())
		case section == descSequence, section == descValue, section < descHeader, section > descFooter:
			d.fail(errNoBatch)
		default:
			d.skip()
		}
		if len(out) > lim.Values {
			d.fail(errCount)
		}
	}
	if d.err == nil && len(out) == 0 {
		d.fail(errNoBatch)
	}
	if d.err != nil {
		return nil, d.err
	}
	return out, nil
}

// Batched decodes the messages contained in the envelope m one after another. It stops after the first error. The
// message yielded is reused: it is valid until the next step.
func (m *Message) Batched(lim Limits) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if m.Body != BodyData {
			yield(nil, errNoBatch)
			return
		}
		var inner Message
		for _, data := range m.Data {
			if err := inner.Decode(data, lim); err != nil {
				yield(nil, err)
				return
			}
			if !yield(&inner, nil) {
				return
			}
		}
	}
}
