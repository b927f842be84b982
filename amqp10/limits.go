package amqp10

// Limits bounds what decoding may cost. Lengths and counts on the wire are checked against the bytes that are there
// before anything is allocated. Zero fields mean the default.
type Limits struct {
	Depth  int // nesting of lists, maps, arrays and described values; default 16
	Values int // values decoded in all, elements and keys counted one by one; default 65536
	Size   int // bytes of the whole; default 64 MiB
}

func (l Limits) orDefault() Limits {
	if l.Depth <= 0 {
		l.Depth = 16
	}
	if l.Values <= 0 {
		l.Values = 1 << 16
	}
	if l.Size <= 0 {
		l.Size = 64 << 20
	}
	return l
}
