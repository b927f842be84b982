package store

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// The private encoding of an event in a segment, little-endian:
//
//	int64   enqueued time, nanoseconds since the Unix epoch
//	uint32  flags: one bit for each field that is present
//	3 x word    authentication method, source, model id
//	fields      uvarint length and bytes, in the order of the bits
//	int64       expiry, milliseconds since the Unix epoch; if flagged
//	properties  uvarint count, then for each uvarint name length, name, uvarint value length*2+null, value; if flagged
//	body        the rest
//
// A word is one byte that stands for a text in the log's glossary, or inlineWord followed by a field.
const (
	flagsAt      = 8
	textFields   = 19 // the first bits, in the order of texts
	flagExpiry   = 1 << 19
	flagProps    = 1 << 20
	flagKeyIsID  = 1 << 21 // the partition key is the device id and is not repeated
	inlineWord   = 255
	maxGlossary  = 250
	maxGlossText = 512 // longer texts are not worth keeping forever
)

// texts lists the text fields in the order of their flag bits.
func texts(e *Event) [textFields]*string {
	return [textFields]*string{
		&e.MessageID, &e.CorrelationID, &e.UserID, &e.To, &e.ContentType, &e.ContentEncoding, &e.CreationTime, &e.MessageSchema,
		&e.Operation, &e.Ack, &e.OutputName, &e.InterfaceID, &e.Subject, &e.DiagnosticID, &e.DiagnosticCtx, &e.DeviceID,
		&e.ModuleID, &e.GenerationID, &e.PartitionKey,
	}
}

const senderBit = 15 // the first of the fields that say who sent it: DeviceID and those after it

// words lists the fields that are the same in very many events.
func words(e *Event) [3]*string { return [3]*string{&e.AuthMethod, &e.Source, &e.ModelID} }

// encoder encodes events that are stored together. Most have the same sender: what that makes the same is encoded for the first of them, and
// copied for the next.
type encoder struct {
	glossary *glossary
	last     *Event // nil before the first
	words    []byte // of the last, in the buffer; so are the fields of its sender
	sender   []byte
	flags    uint32 // of the sender's fields
}

// append appends the encoding of e to buf, which holds what was encoded before. e must not change until the next.
func (c *encoder) append(buf []byte, e *Event) []byte {
	start := len(buf)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(e.Enqueued.UnixNano()))
	buf = append(buf, 0, 0, 0, 0) // the flags, once they are known
	buf = c.appendWords(buf, e)
	fields := texts(e)
	buf, flags := appendTexts(buf, fields[:senderBit], 0)
	buf = c.appendSender(buf, e, fields[senderBit:])
	flags |= c.flags
	c.last = e
	if !e.Expiry.IsZero() {
		flags |= flagExpiry
		buf = binary.LittleEndian.AppendUint64(buf, uint64(e.Expiry.UnixMilli()))
	}
	if len(e.Properties) > 0 {
		flags |= flagProps
		buf = appendProperties(buf, e.Properties)
	}
	binary.LittleEndian.PutUint32(buf[start+flagsAt:], flags)
	return append(buf, e.Body...)
}

func (c *encoder) appendWords(buf []byte, e *Event) []byte {
	if l := c.last; l != nil && l.AuthMethod == e.AuthMethod && l.Source == e.Source && l.ModelID == e.ModelID {
		return append(buf, c.words...)
	}
	start := len(buf)
	page := c.glossary.load()
	for _, w := range words(e) {
		buf, page = c.glossary.append(buf, page, *w)
	}
	c.words = buf[start:]
	return buf
}

// appendSender appends the text fields from senderBit on.
func (c *encoder) appendSender(buf []byte, e *Event, fields []*string) []byte {
	if l := c.last; l != nil && l.DeviceID == e.DeviceID && l.ModuleID == e.ModuleID && l.GenerationID == e.GenerationID && l.PartitionKey == e.PartitionKey {
		return append(buf, c.sender...)
	}
	start := len(buf)
	if e.PartitionKey == e.DeviceID && e.DeviceID != "" {
		buf, c.flags = appendTexts(buf, fields[:len(fields)-1], senderBit)
		c.flags |= flagKeyIsID
	} else {
		buf, c.flags = appendTexts(buf, fields, senderBit)
	}
	c.sender = buf[start:]
	return buf
}

// appendTexts appends the fields that are not empty, the first of which has the flag bit. It returns their flags.
func appendTexts(buf []byte, fields []*string, bit int) (_ []byte, flags uint32) {
	for i, s := range fields {
		if *s != "" {
			flags |= 1 << (bit + i)
			buf = appendText(buf, *s)
		}
	}
	return buf, flags
}

func appendProperties(buf []byte, properties []Property) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(properties)))
	for i := range properties {
		p := &properties[i]
		buf = appendText(buf, p.Name)
		length := uint64(2 * len(p.Value))
		if p.Null {
			length++
		}
		buf = append(binary.AppendUvarint(buf, length), p.Value...)
	}
	return buf
}

// decodeEvent reads one encoded event into e, whose texts and body then point into data: data must never change. Properties are
// appended to props, which is returned.
func decodeEvent(data []byte, e *Event, props []Property, g *glossary) []Property {
	r := eventReader{data: data}
	e.Enqueued = time.Unix(0, int64(r.uint64())).UTC()
	flags := r.uint32()
	for _, w := range words(e) {
		*w = r.word(g)
	}
	for i, s := range texts(e) {
		if flags&(1<<i) != 0 {
			*s = r.text(r.uvarint())
		}
	}
	if flags&flagKeyIsID != 0 {
		e.PartitionKey = e.DeviceID
	}
	if flags&flagExpiry != 0 {
		e.Expiry = time.UnixMilli(int64(r.uint64())).UTC()
	}
	if flags&flagProps != 0 {
		first := len(props)
		for range r.uvarint() {
			p := Property{Name: r.text(r.uvarint())}
			length := r.uvarint()
			p.Null, p.Value = length&1 != 0, r.text(length/2)
			props = append(props, p)
		}
		e.Properties = props[first:len(props):len(props)]
	}
	e.Body = r.data[:len(r.data):len(r.data)]
	return props
}

// eventReader walks over one encoded event. The bytes are our own, so it checks nothing beyond Go's bounds.
type eventReader struct{ data []byte }

func (r *eventReader) uint64() uint64 {
	v := binary.LittleEndian.Uint64(r.data)
	r.data = r.data[8:]
	return v
}

func (r *eventReader) uint32() uint32 {
	v := binary.LittleEndian.Uint32(r.data)
	r.data = r.data[4:]
	return v
}

func (r *eventReader) uvarint() int {
	v, n := binary.Uvarint(r.data)
	r.data = r.data[n:]
	return int(v)
}

// text returns the next n bytes without copying them: segments are written once and never changed.
func (r *eventReader) text(n int) string {
	if n == 0 {
		return ""
	}
	s := unsafe.String(&r.data[:n][0], n)
	r.data = r.data[n:]
	return s
}

func (r *eventReader) word(g *glossary) string {
	code := r.data[0]
	r.data = r.data[1:]
	if code == inlineWord {
		return r.text(r.uvarint())
	}
	return g.load().texts[code]
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// glossary gives the texts that most events repeat a number of one byte. It only grows, to a limit; reading it takes no lock.
type glossary struct {
	mu      sync.Mutex
	current atomic.Pointer[glossaryPage]
}

// glossaryPage is one state of a glossary; it never changes.
type glossaryPage struct {
	codes map[string]byte
	texts []string // by code; 0 is the empty text
}

func (g *glossary) load() *glossaryPage { return g.current.Load() }

// code returns the number of text. The first texts are compared one by one: that is quicker than hashing, and most hubs have no
// others.
func (p *glossaryPage) code(text string) (code byte, known bool) {
	first := p.texts[:min(len(p.texts), 8)]
	for i, t := range first {
		if t == text {
			return byte(i), true
		}
	}
	if len(p.texts) == len(first) {
		return 0, false
	}
	code, known = p.codes[text]
	return code, known
}

// append writes the number of text, or text itself when it has none. It returns the page for the next text.
func (g *glossary) append(buf []byte, page *glossaryPage, text string) ([]byte, *glossaryPage) {
	code, known := page.code(text) // the empty text is the first
	if !known && len(page.texts) <= maxGlossary && len(text) <= maxGlossText {
		code, known = g.add(text)
		page = g.load()
	}
	if known {
		return append(buf, code), page
	}
	return appendText(append(buf, inlineWord), text), page
}

// add numbers text unless somebody was faster or the glossary is full.
func (g *glossary) add(text string) (code byte, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.load()
	if code, known = old.codes[text]; known || len(old.texts) > maxGlossary {
		return code, known
	}
	text = strings.Clone(text) // the sender may reuse its memory
	page := &glossaryPage{codes: maps.Clone(old.codes), texts: append(slices.Clone(old.texts), text)}
	page.codes[text] = byte(len(old.texts))
	g.current.Store(page)
	return page.codes[text], true
}

func newGlossary() *glossary {
	g := &glossary{}
	g.current.Store(&glossaryPage{codes: map[string]byte{}, texts: []string{""}})
	return g
}
