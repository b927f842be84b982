package hub

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// maxID is the longest device, module or message id, in characters (articles "Identity registry" and "Create and read messages").
const maxID = 128

// idCharacters marks what an id may be made of: ASCII letters and digits and - : . + % _ # * ? ! ( ) , = @ ; $ '
var idCharacters = func() (set [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-:.+%_#*?!(),=@;$'" {
		set[c] = true
	}
	return set
}()

// validID reports whether id follows the grammar that device, module and message ids share. It is case-sensitive.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		if !idCharacters[id[i]] {
			return false
		}
	}
	return true
}

// newUUID returns a random UUID (version 4) as text, for lock tokens and message ids, which are no secrets.
func newUUID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	at := 0
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[at] = '-'
			at++
		}
		hex.Encode(text[at:], []byte{c})
		at += 2
	}
	return string(text[:])
}

// ticksAtEpoch is the Unix epoch in .NET ticks: units of 100 ns since the year 1.
const ticksAtEpoch = 621355968000000000

// newGeneration returns a generation id: the time in .NET ticks, and never the same twice in this process.
func (h *Hub) newGeneration() string { return fmt.Sprint(h.tick()) }

// tick returns the time in .NET ticks, later than all that it returned before.
func (h *Hub) tick() int64 {
	for {
		last := h.generation.Load()
		next := max(last+1, h.clock.Now().UnixNano()/int64(100*time.Nanosecond)+ticksAtEpoch)
		if h.generation.CompareAndSwap(last, next) {
			return next
		}
	}
}

// devicePath returns the path below the host that belongs to an identity: devices/{d}[/modules/{m}].
func devicePath(key store.Key) string {
	if key.ModuleID == "" {
		return "devices/" + key.DeviceID
	}
	return "devices/" + key.DeviceID + "/modules/" + key.ModuleID
}

// unquoteETag takes the quotes off an etag, as they stand in HTTP headers; C# puts them even around the star.
func unquoteETag(etag string) string {
	etag = strings.TrimPrefix(strings.TrimSpace(etag), "W/")
	if len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}
