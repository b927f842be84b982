package hub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/iolite-emulator/iolite/store"
)

// exportPage is how many devices are written out at a time.
const exportPage = 256

// export writes the whole registry, with twins, into blobs: a JSON object on each line.
func (h *Hub) export(ctx context.Context, _ int64, job ImportExportJob, progress func(int)) error {
	total, _, err := h.registry.Count(ctx)
	if err != nil {
		return err
	}
	e := &exporter{ctx: ctx, hub: h, withKeys: !job.ExcludeKeys, done: func(devices int) {
		progress(min(99, devices*100/max(total, 1)))
	}}
	if err := h.cfg.Blobs.Put(ctx, job.OutputContainer, job.OutputBlob, e); err != nil {
		return transferError(ctx, "the devices cannot be written", err)
	}
	if !job.Configurations {
		return nil
	}
	text, err := h.exportConfigurations(ctx)
	if err != nil {
		return err
	}
	if err := h.cfg.Blobs.Put(ctx, job.OutputContainer, job.ConfigurationsBlob, text); err != nil {
		return transferError(ctx, "the configurations cannot be written", err)
	}
	return nil
}

// transferError says what went wrong; it is the context's error when the job was ended.
func transferError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w", what, err)
}

// exporter is the text of devices.txt, made as it is read.
type exporter struct {
	ctx      context.Context //nolint:containedctx // a reader lives as long as the one job that made it
	hub      *Hub
	withKeys bool
	done     func(devices int)

	after   store.Key
	devices int
	rows    []store.TwinRow
	text    []byte // not read yet
	ended   bool
}

// Read implements io.Reader.
func (e *exporter) Read(b []byte) (int, error) {
	for len(e.text) == 0 {
		if e.ended {
			return 0, io.EOF
		}
		if err := e.more(); err != nil {
			return 0, err
		}
	}
	n := copy(b, e.text)
	e.text = e.text[n:]
	return n, nil
}

// more writes out the next devices, each before its modules.
func (e *exporter) more() (err error) {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	e.text = e.text[:0]
	if e.rows, err = e.hub.twins.Scan(e.ctx, false, e.after, exportPage, e.rows[:0]); err != nil {
		return err
	}
	if e.ended = len(e.rows) == 0; e.ended {
		return nil
	}
	e.after = e.rows[len(e.rows)-1].Key
	for _, device := range e.rows {
		e.add(device)
		modules, err := e.hub.registry.Modules(e.ctx, device.DeviceID)
		if err != nil {
			return err
		}
		for _, m := range modules {
			if row, err := e.hub.twins.Twin(e.ctx, m.Key); err == nil { // or it has just been deleted
				e.add(row)
			}
		}
	}
	e.devices += len(e.rows)
	e.done(e.devices)
	return nil
}

func (e *exporter) add(row store.TwinRow) {
	completeTwin(&row)
	e.text = append(appendExport(e.text, &row, e.withKeys), '\n')
}

// appendExport appends a line of devices.txt (article "Import and export IoT Hub device identities in bulk").
func appendExport(b []byte, row *store.TwinRow, withKeys bool) []byte {
	t, a := Twin{Device: Device{Identity: row.Identity}, Twin: row.Twin}, row.Authentication
	b = appendText(append(b, `{"id":`...), row.DeviceID)
	if row.ModuleID != "" {
		b = appendText(append(b, `,"moduleId":`...), row.ModuleID)
		b = appendOrNull(append(b, `,"managedBy":`...), row.ManagedBy)
	}
	b = appendText(append(b, `,"eTag":`...), row.ETag)
	b = appendText(append(b, `,"status":`...), string(row.Status))
	b = appendOrNull(append(b, `,"statusReason":`...), row.StatusReason)
	if !withKeys {
		a.PrimaryKey, a.SecondaryKey = "", ""
	}
	b = appendOrNull(append(b, `,"authentication":{"symmetricKey":{"primaryKey":`...), a.PrimaryKey)
	b = appendOrNull(append(b, `,"secondaryKey":`...), a.SecondaryKey)
	b = appendOrNull(append(b, `},"x509Thumbprint":{"primaryThumbprint":`...), a.PrimaryThumbprint)
	b = appendOrNull(append(b, `,"secondaryThumbprint":`...), a.SecondaryThumbprint)
	b = appendText(append(b, `},"type":`...), string(a.Type))
	b = appendText(append(b, `},"twinETag":`...), t.ETag())
	b = row.Twin.Tags.AppendJSON(append(b, `,"tags":`...))
	b = appendFullSection(append(b, `,"properties":{"desired":`...), row.Twin.Desired, true)
	b = appendFullSection(append(b, `,"reported":`...), row.Twin.Reported, false)
	b = strconv.AppendBool(append(b, `},"capabilities":{"iotEdge":`...), row.IoTEdge)
	b = append(b, '}')
	if row.DeviceScope != "" {
		b = appendText(append(b, `,"deviceScope":`...), row.DeviceScope)
	}
	return append(b, '}')
}

// exportConfigurations returns the text of configurations.txt. There are 100 at most.
func (h *Hub) exportConfigurations(ctx context.Context) (io.Reader, error) {
	list, err := h.configurations.store.List(ctx)
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, c := range list {
		shown := Configuration{Configuration: c, SystemMetrics: systemMetrics(&c), CustomMetrics: customMetrics(&c)}
		text = append(shown.AppendJSON(text), '\n')
	}
	return bytes.NewReader(text), nil
}
