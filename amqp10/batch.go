package amqp10

import "iter"

// BatchFormat is the message-format of Azure's batches: an envelope whose body is data sections, each holding one
// complete encoded message.
const BatchFormat uint32 = 0x80013700

// SplitBatch returns the encoded messages in a batch, in order, aliasing payload, without decoding them or the
// envelope's sections. It fails when payload is no batch: no data section, or another kind of body.
func SplitBatch(payload []byte, lim Limits) ([][]byte, error) { panic("not yet") }

// Batched decodes the messages contained in the envelope m one after another. It stops after the first error. The
// message yielded is reused: it is valid until the next step.
func (m *Message) Batched(lim Limits) iter.Seq2[*Message, error] { panic("not yet") }
