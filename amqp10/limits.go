package amqp10

// Limits bounds what decoding may cost. Lengths and counts on the wire are checked against the bytes that are there
// before anything is allocated. Zero fields mean the default.
type Limits struct {
	Depth  int // nesting of lists, maps, arrays and described values; default 16
	Values int // values decoded in all, elements and keys counted one by one; default 65536
	Size   int // bytes of the whole; default 64 MiB
}
