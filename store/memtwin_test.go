package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/document"
)

func TestUpdateTwinIsACompareAndSwap(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	r, twins := m.Registry(), m.Twins()
	key := Key{DeviceID: "d"}
	if _, err := twins.Twin(t.Context(), key); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), Identity{Key: key, GenerationID: "1"}); err != nil {
		t.Fatal(err)
	}
	one := Twin{Version: 3, Tags: document.EmptyObject}
	for _, try := range []struct {
		generation string
		version    int64
		want       error
	}{{"2", 0, ErrConflict}, {"1", 1, ErrConflict}, {"1", 0, nil}, {"1", 0, ErrConflict}, {"1", 3, nil}} {
		if err := twins.UpdateTwin(t.Context(), key, try.generation, try.version, one); !errors.Is(err, try.want) {
			t.Errorf("generation %s, version %d: %v, want %v", try.generation, try.version, err, try.want)
		}
	}
	if _, err := r.Update(t.Context(), Identity{Key: key, GenerationID: "1", StatusReason: "x"}, "*"); err != nil {
		t.Fatal(err)
	}
	row, err := twins.Twin(t.Context(), key)
	if err != nil || row.Twin.Version != 3 || row.StatusReason != "x" {
		t.Errorf("%+v, %v", row, err)
	}
	if _, err := r.Delete(t.Context(), key, "*"); err != nil {
		t.Fatal(err)
	}
	if err := twins.UpdateTwin(t.Context(), key, "1", 3, one); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestScanGoesThroughAllInOrder holds for any registry and any size of page.
func TestScanGoesThroughAllInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMemory(MemoryOptions{})
		var want [2][]Key // devices, modules
		for d := range rapid.IntRange(0, 300).Draw(t, "devices") {
			device := Key{DeviceID: fmt.Sprintf("d%03d", d)}
			want[0] = append(want[0], device)
			_, _ = m.Registry().Create(t.Context(), Identity{Key: device})
			for i := range max(0, rapid.IntRange(-3, 3).Draw(t, "modules")) {
				module := Key{DeviceID: device.DeviceID, ModuleID: fmt.Sprintf("m%d", i)}
				want[1] = append(want[1], module)
				_, _ = m.Registry().Create(t.Context(), Identity{Key: module})
			}
		}
		limit := rapid.IntRange(1, 150).Draw(t, "limit")
		for kind, modules := range []bool{false, true} {
			var got []Key
			for after := (Key{}); ; after = got[len(got)-1] {
				rows, err := m.Twins().Scan(t.Context(), modules, after, limit, nil)
				if err != nil || len(rows) > limit {
					t.Fatalf("%d rows, %v", len(rows), err)
				}
				if len(rows) == 0 {
					break
				}
				for _, r := range rows {
					got = append(got, r.Key)
				}
			}
			if !slices.Equal(got, want[kind]) {
				t.Fatalf("modules %v, pages of %d: got %v, want %v", modules, limit, got, want[kind])
			}
		}
	})
}

func TestScanAppends(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	for _, id := range strings.Fields("a b c") {
		_, _ = m.Registry().Create(t.Context(), Identity{Key: Key{DeviceID: id}})
	}
	rows, err := m.Twins().Scan(t.Context(), false, Key{DeviceID: "a"}, 1, []TwinRow{{}})
	if err != nil || len(rows) != 2 || rows[1].DeviceID != "b" {
		t.Errorf("%v, %v", rows, err)
	}
}
