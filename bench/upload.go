package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/iolite-emulator/iolite/auth"
)

// uploadBlock is the size of a block of an upload.
const uploadBlock = 5 << 20

// measureUpload uploads a file as a device does: asks where to, puts blocks, puts their list, and says that it is done.
func (b *bench) measureUpload(ctx context.Context) error {
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"), "--data-dir", filepath.Join(b.dir, "blobs"))
	if err != nil {
		return err
	}
	defer e.stop()
	if err := e.register(ctx, 1); err != nil {
		return err
	}
	var dialer net.Dialer
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: e.tls, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, e.address("https")) // whatever the hub's name resolves to
	}}}
	defer client.CloseIdleConnections()
	before, err := e.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := e.upload(ctx, client, b.uploaded); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	took := time.Since(begin)
	after, err := e.cpu()
	if err != nil {
		return err
	}
	m, err := e.memory()
	mebibytes := float64(uploadBlock*b.uploaded) / (1 << 20)
	b.report.Backend = append(b.report.Backend, backendFigures{
		Name:  fmt.Sprintf("upload of %.0f MiB in blocks of %d, HTTPS, kept on disk (MiB; resident afterwards %.1f MiB)", mebibytes, uploadBlock>>20, mib(m.Resident)),
		Count: int(mebibytes), PerSecond: mebibytes / took.Seconds(), CPU: micros(after-before) / mebibytes,
	})
	return err
}

// upload does the whole of it as device 0, in so many blocks.
func (e *emulator) upload(ctx context.Context, client *http.Client, blocks int) error {
	token, err := auth.NewToken(e.info.Hostname+"/devices/"+deviceID(0), deviceKey, "", until(tokenLife))
	if err != nil {
		return err
	}
	files := "https://" + e.address("https") + "/devices/" + deviceID(0) + "/files"
	call := func(method, url string, body []byte, header http.Header, want int, into any) error {
		request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header = header
		return answered(client, request, want, into)
	}
	device := http.Header{"Authorization": {token}, "Content-Type": {"application/json"}}
	var place struct{ CorrelationID, HostName, ContainerName, BlobName, SasToken string }
	if err := call(http.MethodPost, files+"?api-version="+apiVersion, []byte(`{"blobName":"bench.bin"}`), device, http.StatusOK, &place); err != nil {
		return err
	}
	blob := "https://" + place.HostName + "/" + place.ContainerName + "/" + place.BlobName + place.SasToken
	storage := http.Header{"X-Ms-Version": {"2021-08-06"}}
	block := bytes.Repeat([]byte("0123456789abcdef"), uploadBlock/16)
	list := []byte("<BlockList>")
	for i := range blocks {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "block-%03d", i))
		if err := call(http.MethodPut, blob+"&comp=block&blockid="+url.QueryEscape(id), block, storage, http.StatusCreated, nil); err != nil {
			return err
		}
		list = fmt.Appendf(list, "<Latest>%s</Latest>", id)
	}
	if err := call(http.MethodPut, blob+"&comp=blocklist", append(list, "</BlockList>"...), storage, http.StatusCreated, nil); err != nil {
		return err
	}
	done, err := json.Marshal(map[string]any{"correlationId": place.CorrelationID, "isSuccess": true, "statusCode": 200, "statusDescription": "done"})
	if err != nil {
		return err
	}
	return call(http.MethodPost, files+"/notifications?api-version="+apiVersion, done, device, http.StatusNoContent, nil)
}

// answered sends a request whose answer must have a status.
func answered(client *http.Client, request *http.Request, want int, into any) error {
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	text, err := readAll(answer)
	if err == nil && answer.StatusCode != want {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, answer.Status, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	return err
}
