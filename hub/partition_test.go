package hub

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The vectors that the author of lookup3 publishes with it (driver5 of lookup3.c).
func TestLookup3PublishedVectors(t *testing.T) {
	for _, v := range []struct {
		text         string
		c, b         uint32
		wantC, wantB uint32
	}{
		{"", 0, 0, 0xdeadbeef, 0xdeadbeef},
		{"", 0, 0xdeadbeef, 0xbd5b7dde, 0xdeadbeef},
		{"", 0xdeadbeef, 0xdeadbeef, 0x9c093ccd, 0xbd5b7dde},
		{"Four score and seven years ago", 0, 0, 0x17770551, 0xce7226e6},
		{"Four score and seven years ago", 0, 1, 0xe3607cae, 0xbd371de4},
		{"Four score and seven years ago", 1, 0, 0xcd628161, 0x6cbea4b3},
	} {
		if c, b := lookup3([]byte(v.text), v.c, v.b); c != v.wantC || b != v.wantB {
			t.Errorf("lookup3(%q, %x, %x) = %x, %x; want %x, %x", v.text, v.c, v.b, c, b, v.wantC, v.wantB)
		}
	}
}

func TestPartitionIsInRangeAndIgnoresCase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, n := rapid.StringMatching(`[a-zA-Z0-9\-_]{1,64}`).Draw(t, "id"), rapid.IntRange(1, 32).Draw(t, "partitions")
		p := PartitionOf(id, n)
		if p < 0 || p >= n {
			t.Fatalf("PartitionOf(%q, %d) = %d", id, n, p)
		}
		if lower := PartitionOf(strings.ToLower(id), n); lower != p {
			t.Fatalf("PartitionOf(%q, %d) = %d and %d", id, n, p, lower)
		}
	})
	if PartitionOf("MyDevice", 32) != PartitionOf("mydevice", 32) {
		t.Error("case changes the partition")
	}
}

func TestSlotsAreDealtOutEvenly(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 7, 32} {
		devices := make([]int, n)
		for i := range 4000 * n {
			devices[PartitionOf(fmt.Sprint("device-", i), n)]++
		}
		for p, count := range devices {
			if count < 3500 || count > 4500 {
				t.Errorf("partition %d of %d has %d of %d devices", p, n, count, 4000*n)
			}
		}
	}
}
