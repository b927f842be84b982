package httpapi

import "bytes"

// chunks finds the end of a body in chunked transfer coding (RFC 9112 7.1) that net/http decodes and checks.
type chunks struct {
	part chunkPart
	left uint64 // of the chunk's data; its size while that is being read
	line int    // characters of the current trailer line
}

type chunkPart uint8

const (
	chunkSize      chunkPart = iota // hexadecimal digits
	chunkExtension                  // the rest of that line
	chunkData
	chunkEnd // the line end behind the data
	chunkTrailer
	chunkDone
)

// skip returns what of p comes after the body. It is called with one part of the stream after the other until done.
func (c *chunks) skip(p []byte) (rest []byte, done bool) {
	for len(p) > 0 && c.part != chunkDone {
		if c.part == chunkData {
			n := min(c.left, uint64(len(p)))
			p = p[n:]
			if c.left -= n; c.left == 0 {
				c.part = chunkEnd
			}
			continue
		}
		c.step(p[0])
		p = p[1:]
	}
	return p, c.part == chunkDone
}

// step takes one byte of what stands around the data.
func (c *chunks) step(b byte) {
	switch {
	case b == '\n':
		c.endLine()
	case c.part == chunkTrailer && b != '\r':
		c.line++
	case c.part == chunkSize:
		if digit := bytes.IndexByte([]byte("0123456789abcdef"), b|0x20); digit >= 0 {
			c.left = c.left<<4 | uint64(digit)
		} else {
			c.part = chunkExtension
		}
	}
}

func (c *chunks) endLine() {
	switch c.part {
	case chunkSize, chunkExtension:
		c.part = chunkData
		if c.left == 0 { // the last chunk
			c.part = chunkTrailer
		}
	case chunkEnd:
		c.part = chunkSize
	case chunkTrailer:
		if c.line == 0 {
			c.part = chunkDone
		}
		c.line = 0
	}
}
