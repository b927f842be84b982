package amqp10

// fields writes a described list. The nulls at its end may be left out (AMQP 1.4).
type fields struct {
	b     []byte
	start int
	n     int // fields written
	keep  int // fields up to the last that is not null
	end   int // len(b) after that field
	err   error
}

// openFields begins the described list of descriptor desc, which is below 256.
func openFields(b []byte, desc byte) fields {
	b = append(b, codeDescribed, codeSmallUlong, desc)
	b, start := openCompound(b, codeList8)
	return fields{b: b, start: start, end: len(b)}
}

// closeWhole ends the list with every one of its total fields, nulls at its end included. AMQP 1.4 lets them be left out, but
// azure-eventhub for Python (pyamqp) reads performatives by index and takes the field after a transfer's last for its payload.
func (f *fields) closeWhole(total int) []byte {
	for f.n < total {
		f.null()
	}
	return closeCompound(f.b, f.start, total)
}

// close ends the list without the nulls at its end.
func (f *fields) close() []byte {
	if f.keep == 0 {
		return append(f.b[:f.start], codeList0)
	}
	return closeCompound(f.b[:f.end], f.start, f.keep)
}

// wrote counts a field that is not null.
func (f *fields) wrote() {
	f.n++
	f.keep, f.end = f.n, len(f.b)
}

func (f *fields) null() {
	f.b = append(f.b, codeNull)
	f.n++
}

func (f *fields) bool(v bool)     { f.b = appendBool(f.b, v); f.wrote() }
func (f *fields) uint(v uint32)   { f.b = appendUint(f.b, v); f.wrote() }
func (f *fields) ulong(v uint64)  { f.b = appendUlong(f.b, v); f.wrote() }
func (f *fields) binary(v []byte) { f.b = appendBinary(f.b, v); f.wrote() }
func (f *fields) text(v string)   { f.b = appendString(f.b, v); f.wrote() }
func (f *fields) ubyte(v uint8)   { f.b = append(f.b, codeUbyte, v); f.wrote() }
func (f *fields) raw(v []byte)    { f.b = append(f.b, v...); f.wrote() }

func (f *fields) ushort(v uint16) {
	f.b = be.AppendUint16(append(f.b, codeUshort), v)
	f.wrote()
}

func (f *fields) symbol(v Symbol) { f.b = appendSymbol(f.b, v); f.wrote() }

// The opt variants write null for what is absent.

func (f *fields) optUint(v opt32) {
	if v.set {
		f.uint(v.v)
	} else {
		f.null()
	}
}

func (f *fields) optTrue(v bool) {
	if v {
		f.bool(true)
	} else {
		f.null()
	}
}

func (f *fields) optText(v string) {
	if v != "" {
		f.text(v)
	} else {
		f.null()
	}
}

func (f *fields) optSymbol(v Symbol) {
	if v != "" {
		f.symbol(v)
	} else {
		f.null()
	}
}

func (f *fields) optSymbols(v []Symbol) {
	if len(v) == 0 {
		f.null()
		return
	}
	f.b = appendTexts(f.b, codeSym32, v)
	f.wrote()
}

func (f *fields) optMap(m Map) {
	if len(m) == 0 {
		f.null()
		return
	}
	f.value(m)
}

func (f *fields) value(v any) {
	if v == nil {
		f.null()
		return
	}
	at := len(f.b)
	b, err := AppendValue(f.b, v)
	if err != nil {
		if f.err == nil {
			f.err = err
		}
		f.b = b[:at]
		f.null()
		return
	}
	f.b = b
	f.wrote()
}

// opt32 is a uint that may be absent.
type opt32 struct {
	v   uint32
	set bool
}

func some32(v uint32) opt32 { return opt32{v, true} }

func (d *decoder) optUint() opt32 {
	if !d.has() {
		return opt32{}
	}
	return some32(d.uintField())
}
