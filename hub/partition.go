package hub

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// slots is the number of logical partitions that keys are spread over before those are dealt out to the real ones.
const slots = 32767

// PartitionOf returns which of n partitions the events with a partition key belong to: the device id for telemetry. Case does not
// matter. Source: azure-iot-sdk-c, testtools/iothub_test, which computes it to read only its own device's partition.
func PartitionOf(key string, n int) int {
	if n <= 1 {
		return 0
	}
	var upper [128]byte // longer than any device id: no memory is needed for one
	c, b := lookup3(appendUpper(upper[:0], key), 0, 0)
	slot := int(int16(c^b)) % slots
	if slot < 0 {
		slot = -slot
	}
	width, wide := slots/n, slots%n // the first wide partitions have one slot more
	if slot < wide*(width+1) {
		return slot / (width + 1)
	}
	return min((slot-wide)/width, n-1)
}

// appendUpper appends s in capitals.
func appendUpper(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			return append(b[:len(b)-i], strings.ToUpper(s)...)
		}
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// lookup3 is Bob Jenkins' hash of 2006 with two results, published as hashlittle2; c and b go in as seeds.
func lookup3(data []byte, c, b uint32) (uint32, uint32) {
	a := 0xdeadbeef + uint32(len(data)) + c
	b, c = a, a+b
	for len(data) > 12 {
		a += binary.LittleEndian.Uint32(data)
		b += binary.LittleEndian.Uint32(data[4:])
		c += binary.LittleEndian.Uint32(data[8:])
		a, b, c = lookup3Mix(a, b, c)
		data = data[12:]
	}
	if len(data) == 0 {
		return c, b
	}
	var tail [12]byte // zeros add nothing
	copy(tail[:], data)
	a += binary.LittleEndian.Uint32(tail[:])
	b += binary.LittleEndian.Uint32(tail[4:])
	c += binary.LittleEndian.Uint32(tail[8:])
	return lookup3Final(a, b, c)
}

func lookup3Mix(a, b, c uint32) (uint32, uint32, uint32) {
	a, c = (a-c)^bits.RotateLeft32(c, 4), c+b
	b, a = (b-a)^bits.RotateLeft32(a, 6), a+c
	c, b = (c-b)^bits.RotateLeft32(b, 8), b+a
	a, c = (a-c)^bits.RotateLeft32(c, 16), c+b
	b, a = (b-a)^bits.RotateLeft32(a, 19), a+c
	c, b = (c-b)^bits.RotateLeft32(b, 4), b+a
	return a, b, c
}

func lookup3Final(a, b, c uint32) (uint32, uint32) {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return c, b
}
