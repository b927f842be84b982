package hub

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/store"
)

// importAll carries out what stands in a devices.txt, and writes an importErrors.log of what failed.
func (h *Hub) importAll(ctx context.Context, era int64, job ImportExportJob, progress func(int)) error {
	var log errorLog
	err := h.importBlob(ctx, job.InputContainer, job.InputBlob, progress, func(line []byte) { h.importDevice(ctx, era, line, &log) })
	if err == nil && job.Configurations {
		err = h.importBlob(ctx, job.InputContainer, job.ConfigurationsBlob, func(int) {}, func(line []byte) { h.importConfiguration(ctx, era, line, &log) })
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	name := cmp.Or(job.OutputBlob, errorsBlob)
	if putErr := h.cfg.Blobs.Put(ctx, job.OutputContainer, name, strings.NewReader(log.String())); putErr != nil && err == nil {
		err = transferError(ctx, "the errors cannot be written", putErr)
	}
	return err
}

// importBlob calls carryOut for each line of a blob.
func (h *Hub) importBlob(ctx context.Context, container, name string, progress func(int), carryOut func(line []byte)) error {
	body, size, err := h.cfg.Blobs.Get(ctx, container, name)
	if err != nil {
		return transferError(ctx, "the input cannot be read", err)
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewScanner(io.LimitReader(body, maxImport+1))
	lines.Buffer(nil, maxTwinBody)
	var read int64
	for lines.Scan() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		read += int64(len(lines.Bytes())) + 1
		if read > maxImport {
			return errors.New("the input is longer than 1 GiB")
		}
		if line := bytes.TrimSpace(bytes.TrimPrefix(lines.Bytes(), []byte("\uFEFF"))); len(line) > 0 {
			carryOut(line)
		}
		if size > 0 {
			progress(int(min(99, read*100/size)))
		}
	}
	if err := lines.Err(); err != nil {
		return transferError(ctx, "the input cannot be read", err)
	}
	return nil
}

// importItem is a line of devices.txt. Source: azure-iot-sdk-csharp, ExportImportDevice.cs.
type importItem struct {
	ID             string
	ModuleID       string
	ManagedBy      string
	ETag           string
	ImportMode     string
	Status         store.Status
	StatusReason   string
	Authentication struct {
		Type           store.AuthType
		SymmetricKey   struct{ PrimaryKey, SecondaryKey string }
		X509Thumbprint struct{ PrimaryThumbprint, SecondaryThumbprint string }
	}
	TwinETag     string
	Tags         document.Value
	Properties   struct{ Desired document.Value }
	Capabilities struct{ IoTEdge bool }
	DeviceScope  string
	ParentScopes []string
}

// item returns the operation that a line means. Without a mode it is createOrUpdate.
func (i *importItem) item() BulkItem {
	return BulkItem{
		Mode: cmp.Or(i.ImportMode, "createOrUpdate"), TwinETag: i.TwinETag, Tags: i.Tags, Desired: i.Properties.Desired,
		Identity: store.Identity{
			Key: store.Key{DeviceID: i.ID, ModuleID: i.ModuleID}, ETag: i.ETag, Status: i.Status, StatusReason: i.StatusReason, ManagedBy: i.ManagedBy,
			Authentication: store.Authentication{
				Type: i.Authentication.Type, PrimaryKey: i.Authentication.SymmetricKey.PrimaryKey, SecondaryKey: i.Authentication.SymmetricKey.SecondaryKey,
				PrimaryThumbprint:   i.Authentication.X509Thumbprint.PrimaryThumbprint,
				SecondaryThumbprint: i.Authentication.X509Thumbprint.SecondaryThumbprint,
			},
			IoTEdge: i.Capabilities.IoTEdge, DeviceScope: i.DeviceScope, ParentScopes: i.ParentScopes,
		},
	}
}

// importDevice carries out one line. What fails goes into the log and stops nothing.
func (h *Hub) importDevice(ctx context.Context, era int64, line []byte, log *errorLog) {
	if h.era.Load() != era { // a reset is ending the job
		return
	}
	var i importItem
	if err := json.Unmarshal(line, &i); err != nil {
		log.fail(i.ID, i.ModuleID, h.NewError(CodeArgumentInvalid, err.Error()))
		return
	}
	item := i.item()
	var err error
	if _, known := bulkModes[strings.ToLower(item.Mode)]; !known {
		err = h.NewError(CodeArgumentInvalid, "unknown import mode "+item.Mode)
	} else {
		err = h.bulkOne(ctx, era, item)
	}
	if err != nil {
		log.fail(i.ID, i.ModuleID, h.bulkError(ctx, item.Identity.Key, err).Err)
	}
}

// importConfiguration carries out one line of configurations.txt: it creates a configuration, or updates the one that is there.
func (h *Hub) importConfiguration(ctx context.Context, era int64, line []byte, log *errorLog) {
	v, err := h.parseDocument(line)
	id := v.Get("id").Text()
	if err == nil {
		var c store.Configuration
		if c, err = h.parseConfiguration(id, line); err == nil {
			if _, err = h.configurations.create(ctx, era, c); isCode(err, CodeConfigurationAlreadyExists) {
				_, err = h.configurations.update(ctx, era, c, "*")
			}
		}
	}
	if err != nil {
		e, _ := AsError(err)
		log.add(object("configurationId", document.OfString(id), "errorCode", document.OfInt(int64(e.Code)), "errorStatus", document.OfString(e.Text)))
	}
}

// fail adds the failure of a line.
func (l *errorLog) fail(deviceID, moduleID string, e *Error) {
	line := object("id", document.OfString(deviceID), "errorCode", document.OfInt(int64(e.Code)), "errorStatus", document.OfString(e.Text))
	if moduleID != "" {
		line = overlay(line, object("moduleId", document.OfString(moduleID)))
	}
	l.add(line)
}
