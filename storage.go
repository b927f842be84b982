package iolite

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/blobapi"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// storageAccount is the name of the account that the HTTPS door serves.
const storageAccount = "iolitestorage"

// storageKey is its key. Like the keys of the policies it never changes, and is no secret.
func storageKey() blob.SharedKey {
	key := sha512.Sum512([]byte("iolite development storage account"))
	return blob.SharedKey{Account: storageAccount, Key: key[:]}
}

// reserved are the first segments of paths that the HTTPS door needs for itself.
var reserved = []string{storageAccount, "configurations", "devices", "digitaltwins", "jobs", "messages", "statistics", "twins"}

// buildStorage makes where file uploads go: the account of a connection string, or our own behind the HTTPS door.
func (e *Emulator) buildStorage(c *blob.Client) (hub.Storage, error) {
	o := &e.options
	if slices.Contains(reserved, o.StorageContainer) {
		return nil, fmt.Errorf("storage container: %q is a path of the hub's own", o.StorageContainer)
	}
	if !blob.IsContainerName(o.StorageContainer) {
		return nil, fmt.Errorf("storage container: %q is no name of a container", o.StorageContainer)
	}
	if o.Storage != "" {
		a, err := blob.ParseAccount(o.Storage)
		if err == nil {
			err = a.ForDevices()
		}
		if err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
		return &remoteStorage{client: c, account: a, container: o.StorageContainer, clock: e.clock}, nil
	}
	if o.HTTPS == Off {
		return nil, nil //nolint:nilnil // a hub without storage
	}
	e.blobs = store.NewMemoryBlobs(o.BlobBytes)
	if o.DataDir != "" {
		disk, err := store.OpenDiskBlobs(filepath.Join(o.DataDir, "blobs"), o.BlobBytes)
		if err != nil {
			return nil, err
		}
		e.blobs = disk
	}
	e.blobapi = blobapi.New(blobapi.Config{Blobs: e.blobs, Key: storageKey(), Container: o.StorageContainer, Clock: e.clock, Logger: e.log})
	return &localStorage{blobs: e.blobs, container: o.StorageContainer, clock: e.clock, host: func() string { return e.hostPort(door.HTTPS, HTTPSPort) }}, nil
}

// blobMetric is the space that uploaded files take.
func (e *Emulator) blobMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "iolite_blob_bytes", Help: "Space that uploaded files take, overheads and uncommitted blocks included."}, e.blobBytes)
}

// blobBytes is what the metric shows.
func (e *Emulator) blobBytes() float64 {
	used, _, err := e.blobs.Usage(context.Background())
	if err != nil {
		e.log.Error("the space of uploaded files is not known", "error", err)
	}
	return float64(used)
}

// closeBlobs lets another emulator use the directory of the blobs. Nobody uses them any more.
func (e *Emulator) closeBlobs() {
	if e.blobs == nil {
		return
	}
	if err := e.blobs.Close(); err != nil {
		e.log.Error("cannot give up the blobs", "error", err)
	}
}

// StorageConnectionString returns the connection string of the account that file uploads go to when no other is named; empty without one.
func (e *Emulator) StorageConnectionString() string {
	if e.blobapi == nil {
		return ""
	}
	return "DefaultEndpointsProtocol=https;AccountName=" + storageAccount + ";AccountKey=" + base64.StdEncoding.EncodeToString(storageKey().Key) +
		";BlobEndpoint=https://" + e.hostPort(door.HTTPS, HTTPSPort) + "/" + storageAccount
}

// devicePermissions are what IoT Hub lets a device do with its blob.
const devicePermissions = "rw"

func target(host, container, name, sas string) hub.UploadTarget {
	return hub.UploadTarget{HostName: host, ContainerName: container, BlobName: name, SASToken: sas}
}

// localStorage is the account that the HTTPS door serves.
type localStorage struct {
	blobs     store.Blobs
	container string
	clock     *clock.Clock
	host      func() string // with the port when it is not the usual one
}

// Prepare implements hub.Storage. The container may be gone after a reset.
func (s *localStorage) Prepare(ctx context.Context) error {
	_, err := s.blobs.Container(ctx, s.container)
	if errors.Is(err, store.ErrNoContainer) {
		_, err = s.blobs.CreateContainer(ctx, s.container, nil, s.clock.Now())
	}
	if errors.Is(err, store.ErrExists) {
		return nil // made in this moment
	}
	return err
}

// Grant implements hub.Storage. The container is at the root, for clients that want nothing but a host for a host name (C).
func (s *localStorage) Grant(name string, until time.Time) hub.UploadTarget {
	return target(s.host(), s.container, name, storageKey().SignBlob(blob.Resource{Container: s.container, Blob: name}, devicePermissions, until))
}

// Stat implements hub.Storage.
func (s *localStorage) Stat(ctx context.Context, name string) (hub.BlobInfo, bool, error) {
	b, err := s.blobs.Blob(ctx, store.BlobKey{Container: s.container, Name: name})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrNoContainer) {
		return hub.BlobInfo{}, false, nil
	}
	uri := url.URL{Scheme: "https", Host: s.host(), Path: "/" + s.container + "/" + name}
	return hub.BlobInfo{URI: uri.String(), Size: b.Size, Modified: b.Modified}, err == nil, err
}

// remoteStorage is an account elsewhere. Its signatures end by the emulator's clock, and are looked at by another.
type remoteStorage struct {
	client    *blob.Client
	account   blob.Account
	container string
	clock     *clock.Clock
	prepared  atomic.Bool
}

// Prepare implements hub.Storage. What was there once is not looked for again.
func (s *remoteStorage) Prepare(ctx context.Context) error {
	if s.prepared.Load() {
		return nil
	}
	if err := s.client.CreateContainer(ctx, s.account, s.container, clock.Wall()); err != nil {
		return err
	}
	s.prepared.Store(true)
	return nil
}

// Grant implements hub.Storage.
func (s *remoteStorage) Grant(name string, until time.Time) hub.UploadTarget {
	return target(s.account.Host(), s.container, name, s.account.Key().SignBlob(blob.Resource{Container: s.container, Blob: name}, devicePermissions, until))
}

// Stat implements hub.Storage.
func (s *remoteStorage) Stat(ctx context.Context, name string) (hub.BlobInfo, bool, error) {
	r := blob.Resource{Container: s.container, Blob: name}
	info, found, err := s.client.Stat(ctx, s.account, r, clock.Wall())
	return hub.BlobInfo{URI: s.account.URI(r), Size: info.Size, Modified: info.Modified}, found, err
}
