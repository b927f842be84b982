package store

import "context"

// Twin implements Twins.
func (r *memRegistry) Twin(_ context.Context, key Key) (TwinRow, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if id := r.find(key); id != nil {
		return id.row(), nil
	}
	return TwinRow{}, ErrNotFound
}

// UpdateTwin implements Twins.
func (r *memRegistry) UpdateTwin(_ context.Context, key Key, generation string, ifVersion int64, twin Twin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.find(key)
	if id == nil {
		return ErrNotFound
	}
	stored := int64(0)
	if id.twin != nil {
		stored = id.twin.Version
	}
	if id.GenerationID != generation || stored != ifVersion {
		return ErrConflict
	}
	id.twin = &twin
	return nil
}

// scanned is how many devices a scan looks at under one lock: writers wait for no more than that.
const scanned = 128

// Scan implements Twins.
func (r *memRegistry) Scan(_ context.Context, modules bool, after Key, limit int, rows []TwinRow) ([]TwinRow, error) {
	until := len(rows) + limit
	if modules && after.ModuleID != "" {
		rows = r.scanRest(after, until, rows)
	}
	for last := after.DeviceID; len(rows) < until; {
		var more bool
		if rows, last, more = r.scan(modules, last, until, rows); !more {
			break
		}
	}
	return rows, nil
}

// scanRest appends the modules of a device that follow after.
func (r *memRegistry) scanRest(after Key, until int, rows []TwinRow) []TwinRow {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := r.devices[after.DeviceID]
	if d == nil {
		return rows
	}
	at, found := d.locate(after.ModuleID)
	if found {
		at++
	}
	return appendRows(rows, d.modules[at:], until)
}

// scan appends what belongs to the next devices, and reports whether there may be more.
func (r *memRegistry) scan(modules bool, after string, until int, rows []TwinRow) (_ []TwinRow, last string, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	wanted := scanned
	if !modules {
		wanted = min(wanted, until-len(rows))
	}
	ids := r.order.after(after, wanted)
	for _, last = range ids {
		d := r.devices[last]
		if !modules {
			rows = append(rows, d.row())
			continue
		}
		if rows = appendRows(rows, d.modules, until); len(rows) == until {
			break
		}
	}
	return rows, last, len(ids) == wanted
}

func appendRows(rows []TwinRow, from []*memIdentity, until int) []TwinRow {
	for _, id := range from {
		if len(rows) == until {
			break
		}
		rows = append(rows, id.row())
	}
	return rows
}
