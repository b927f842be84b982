package blobapi

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

const list = "&comp=blocklist"

func blockQuery(id string) string {
	return "&comp=block&blockid=" + strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(base64.StdEncoding.EncodeToString([]byte(id)))
}

func listOf(ids ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8" standalone="yes"?><BlockList>`)
	for _, id := range ids {
		b.WriteString("<Latest>" + base64.StdEncoding.EncodeToString([]byte(id)) + "</Latest>")
	}
	return b.String() + "</BlockList>"
}

func sumMD5(text string) string {
	sum := md5.Sum([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func sumCRC(text string) string {
	return base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint64(nil, crc64.Checksum([]byte(text), crcTable())))
}

// The check value of CRC-64/NVME, in the catalogue of parametrised CRC algorithms.
func TestCRCIsAzures(t *testing.T) {
	if got := crc64.Checksum([]byte("123456789"), crcTable()); got != 0xae8b14860a799888 {
		t.Errorf("%x", got)
	}
}

func TestBodiesOfAnswers(t *testing.T) {
	r := newRig(t)
	golden(t, "put-blob", r.ask("PUT", "d/a.txt", "", "hello world", "x-ms-blob-type", "BlockBlob", "Content-Type", "text/plain", "x-ms-meta-Room", "7",
		"x-ms-client-request-id", "mine", "x-ms-version", "2021-12-02").text())
	golden(t, "get-blob", r.ask("GET", "d/a.txt", "", "").text())
	golden(t, "get-range", r.ask("GET", "d/a.txt", "", "", "x-ms-range", "bytes=6-", "Range", "bytes=0-1").text())
	golden(t, "head-blob", r.ask("HEAD", "d/a.txt", "", "").text())
	golden(t, "put-block", r.ask("PUT", "d/b", blockQuery("1"), "one").text())
	golden(t, "put-block-list", r.ask("PUT", "d/b", list, listOf("1"), "x-ms-blob-content-type", "text/plain").text())
	r.ask("PUT", "d/b", blockQuery("2"), "two").want(201, "")
	golden(t, "get-block-list", r.ask("GET", "d/b", list+"&blocklisttype=all", "").text())
	golden(t, "list-blobs", r.askAccount("GET", "/iolitestorage/uploads", "restype=container&comp=list&include=metadata", "").text())
	golden(t, "list-prefixes", r.askAccount("GET", "/iolitestorage/uploads", "restype=container&comp=list&delimiter=/&maxresults=1", "").text())
	golden(t, "get-container", r.askAccount("GET", "/iolitestorage/uploads", "restype=container", "").text())
	golden(t, "list-containers", r.askAccount("GET", "/iolitestorage/", "comp=list&include=metadata", "").text())
	golden(t, "put-metadata", r.ask("PUT", "d/b", "&comp=metadata", "", "x-ms-meta-k", "v", "Content-Length", "0").text())
	golden(t, "head-metadata", r.ask("HEAD", "d/b", "&comp=metadata", "").text())
	golden(t, "put-properties", r.ask("PUT", "d/b", "&comp=properties", "", "x-ms-blob-content-type", "text/html", "Content-Length", "0").text())
	golden(t, "head-changed", r.ask("HEAD", "d/b", "", "").text())
	golden(t, "create-container", r.askAccount("PUT", "/iolitestorage/new-one", "restype=container", "", "Content-Length", "0").text())
	golden(t, "delete-container", r.askAccount("DELETE", "/iolitestorage/new-one", "restype=container", "").text())
	golden(t, "delete-blob", r.ask("DELETE", "d/a.txt", "", "").text())
	golden(t, "blob-missing", r.ask("GET", "d/a.txt", "", "").text())
	golden(t, "head-missing", r.ask("HEAD", "d/a.txt", "", "").text())
	golden(t, "no-authentication", r.askRaw("GET", "/uploads/d/b", "").text())
	r.clock.Advance(2 * time.Hour)
	golden(t, "stale-sas", r.askRaw("PUT", "/uploads/x"+key.SignBlob(blob.Resource{Container: "uploads", Blob: "x"}, "rw", start.Add(time.Hour)), "x", "x-ms-blob-type", "BlockBlob").text())
	golden(t, "not-implemented", r.askAccount("PUT", "/iolitestorage/uploads/b", "comp=lease", "").text())
}

// A blob is found by the URI of the article (the container at the root), by Azurite's, and however slashes in its name are escaped (Java).
func TestPathsOfABlob(t *testing.T) {
	r := newRig(t)
	const name = "dev/a b/ü%+.txt"
	sas := r.sas(name, "rw")
	r.askRaw("PUT", "/uploads/dev/a%20b/%C3%BC%25+.txt"+sas, "text", "x-ms-blob-type", "BlockBlob").want(201, "")
	for _, path := range []string{"/uploads/dev/a%20b/%C3%BC%25+.txt", "/uploads/dev%2Fa%20b%2F%c3%bc%25%2B.txt", "/iolitestorage/uploads/dev/a%20b/%C3%BC%25%2B.txt"} {
		if a := r.askRaw("GET", path+sas, "").want(200, ""); a.Body != "text" {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
	for _, path := range []string{"/uploads/" + strings.Repeat("x", 1025), "/uploads/%00", "/uploads/%ff", "/iolitestorage/UP/x"} {
		r.askRaw("GET", path+sas, "").want(400, invalidResourceName)
	}
}

// Out of order, twice, never listed: the list says what the blob is.
func TestBlocks(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"3", "1", "2", "1", "9"} {
		r.ask("PUT", "b", blockQuery(id), "<"+id+">").want(201, "")
	}
	r.ask("GET", "b", "", "").want(404, blobNotFound)
	r.ask("PUT", "b", list, listOf("1", "4")).want(400, invalidBlockList)
	r.ask("PUT", "b", list, listOf("1", "2", "3", "1")).want(201, "")
	if a := r.ask("GET", "b", "", "").want(200, ""); a.Body != "<1><2><3><1>" || a.Header.Get("Content-MD5") != "" {
		t.Errorf("%s, %v", a.Body, a.Header)
	}
	r.ask("PUT", "b", list, listOf("9")).want(400, invalidBlockList) // it was dropped
	committed := func(id string) string { return base64.StdEncoding.EncodeToString([]byte(id)) }
	r.ask("PUT", "b", blockQuery("2"), "<two>").want(201, "")
	r.ask("PUT", "b", list, "<BlockList><Committed>"+committed("2")+"</Committed>\n<Uncommitted>"+committed("2")+"</Uncommitted></BlockList>").want(201, "")
	if a := r.ask("GET", "b", "", "").want(200, ""); a.Body != "<2><two>" {
		t.Errorf("%s", a.Body)
	}
	r.ask("PUT", "b", list, "<BlockList/>").want(201, "")
	if a := r.ask("HEAD", "b", "", "").want(200, ""); a.Header.Get("Content-Length") != "0" {
		t.Errorf("%v", a.Header)
	}
}

func TestBlocksThatAreRefused(t *testing.T) {
	r := newRig(t)
	r.ask("PUT", "b", blockQuery("1"), "x").want(201, "")
	r.ask("PUT", "b", blockQuery("22"), "x").want(400, invalidBlobOrBlock)
	r.ask("PUT", "b", "&comp=block&blockid=%23", "x").want(400, invalidBlockID)
	r.ask("PUT", "b", "&comp=block&blockid=", "x").want(400, invalidQueryParameterValue)
	r.ask("PUT", "b", "&comp=block", "x").want(400, missingRequiredQueryParameter)
	r.ask("PUT", "b", blockQuery(strings.Repeat("x", 65)), "x").want(400, invalidQueryParameterValue)
	r.ask("PUT", "b", blockQuery("2"), "", "Content-Length", "0").want(400, invalidHeaderValue)
	for _, text := range []string{
		"", "nonsense", "<BlockList>", "<BlockList><Latest>MQ==</Latest>", "<Other/>", "<BlockList><Other>MQ==</Other></BlockList>", "<BlockList/><BlockList/>",
		"<BlockList>text</BlockList>", `<!DOCTYPE x [<!ENTITY e "MQ==">]><BlockList><Latest>&e;</Latest></BlockList>`, "<BlockList><Latest>&e;</Latest></BlockList>",
	} {
		r.ask("PUT", "b", list, text, "Content-Length", strconv.Itoa(len(text))).want(400, invalidXMLDocument)
	}
	for _, text := range []string{"<BlockList><Latest>###</Latest></BlockList>", "<BlockList><Latest></Latest></BlockList>", "<BlockList><Committed>MQ==</Committed></BlockList>"} {
		r.ask("PUT", "b", list, text).want(400, invalidBlockList)
	}
	r.ask("PUT", "b", list, "<BlockList>"+strings.Repeat("<Latest>MQ==</Latest>", maxBlocks+1)+"</BlockList>").want(400, blockListTooLong)
	r.ask("PUT", "b", list, "<BlockList>"+strings.Repeat("<Latest>MQ==</Latest>", maxBlocks)+"</BlockList>").want(201, "")
	r.ask("PUT", "b", list, strings.Repeat(" ", maxBlockList+1)).want(413, requestBodyTooLarge)
	r.ask("PUT", "none/b", list, listOf("1")).want(400, invalidBlockList)
}

// What is not what it should be leaves no blob behind.
func TestChecksums(t *testing.T) {
	r := newRig(t)
	text := strings.Repeat("text", 1<<19)
	for i, c := range []struct {
		header, value string
		status        int
		code          code
	}{
		{"Content-MD5", sumMD5(text), 201, ""},
		{"Content-MD5", sumMD5("other"), 400, md5Mismatch},
		{"Content-MD5", "no digest", 400, invalidMD5},
		{"x-ms-content-crc64", sumCRC(text), 201, ""},
		{"x-ms-content-crc64", sumCRC("other"), 400, crc64Mismatch},
		{"x-ms-content-crc64", "AAAA", 400, invalidHeaderValue},
		{"x-ms-blob-content-md5", sumMD5(text), 201, ""},
		{"x-ms-blob-content-md5", sumMD5("other"), 400, md5Mismatch},
	} {
		name := fmt.Sprint("b", i)
		r.ask("PUT", name, "", text, "x-ms-blob-type", "BlockBlob", c.header, c.value).want(c.status, c.code)
		if c.status == 201 {
			if got := r.ask("GET", name, "", "").want(200, "").Header.Get("Content-MD5"); got != sumMD5(text) {
				t.Errorf("%s: Content-MD5 %s", c.header, got)
			}
			r.ask("DELETE", name, "", "").want(202, "")
		} else {
			r.ask("GET", name, "", "").want(404, blobNotFound)
		}
		if c.header == "x-ms-blob-content-md5" {
			continue
		}
		a := r.ask("PUT", name, blockQuery("1"), text, c.header, c.value).want(c.status, c.code)
		if c.status == 201 && a.Header.Get(c.header) != c.value {
			t.Errorf("%s: %v", c.header, a.Header)
		}
	}
	a := r.ask("PUT", "stored", list, listOf(), "x-ms-blob-content-md5", sumMD5("as the client says")).want(201, "")
	if got := r.ask("HEAD", "stored", "", "").want(200, "").Header.Get("Content-MD5"); got != sumMD5("as the client says") || a.Header.Get("x-ms-content-crc64") == "" {
		t.Errorf("%s, %v", got, a.Header)
	}
}

func TestRanges(t *testing.T) {
	r := newRig(t)
	r.put("b", "0123456789")
	for header, want := range map[string]string{
		"bytes=0-0": "0", "bytes=2-4": "234", "bytes=7-": "789", "bytes=5-100": "56789", "bytes=0-9223372036854775807": "0123456789",
	} {
		for _, name := range []string{"Range", "x-ms-range"} {
			a := r.ask("GET", "b", "", "", name, header).want(206, "")
			if a.Body != want || !strings.HasSuffix(a.Header.Get("Content-Range"), "/10") || a.Header.Get("Content-MD5") != "" || a.Header.Get("x-ms-blob-content-md5") == "" {
				t.Errorf("%s: %s, %v", header, a.Body, a.Header)
			}
		}
	}
	for _, header := range []string{"bytes=10-", "bytes=100-200"} {
		if a := r.ask("GET", "b", "", "", "Range", header).want(416, invalidRange); a.Header.Get("Content-Range") != "bytes */10" {
			t.Errorf("%v", a.Header)
		}
	}
	for _, header := range []string{"bytes=-3", "bytes=4-2", "bytes=0-1,3-4", "lines=1-2", "bytes=x-", "bytes=+1-2", "bytes=99999999999999999999-"} {
		if a := r.ask("GET", "b", "", "", "Range", header).want(200, ""); a.Body != "0123456789" {
			t.Errorf("%s: %s", header, a.Body)
		}
		r.ask("GET", "b", "", "", "x-ms-range", header).want(400, invalidHeaderValue)
	}
	if got := r.ask("GET", "b", "", "", "Range", "bytes=2-4", "x-ms-range-get-content-md5", "true").want(206, "").Header.Get("Content-MD5"); got != sumMD5("234") {
		t.Errorf("MD5 of the range %s", got)
	}
	if got := r.ask("GET", "b", "", "", "Range", "bytes=2-4", "x-ms-range-get-content-crc64", "true").want(206, "").Header.Get("x-ms-content-crc64"); got != sumCRC("234") {
		t.Errorf("CRC of the range %s", got)
	}
	r.ask("GET", "b", "", "", "x-ms-range-get-content-md5", "true").want(400, invalidHeaderValue)
	r.put("large", strings.Repeat("x", maxRangeChecksum+1))
	r.ask("GET", "large", "", "", "Range", "bytes=0-", "x-ms-range-get-content-md5", "true").want(400, outOfRangeInput)
	r.put("empty", "")
	r.ask("GET", "empty", "", "").want(200, "")
	r.ask("GET", "empty", "", "", "Range", "bytes=0-").want(416, invalidRange)
}

func TestConditionsOfRequests(t *testing.T) {
	r := newRig(t)
	r.put("b", "x")
	tag := r.ask("HEAD", "b", "", "").Header.Get("ETag")
	put := func(headers ...string) *answer {
		return r.ask("PUT", "b", "", "y", append(headers, "x-ms-blob-type", "BlockBlob")...)
	}
	put("If-None-Match", "*").want(409, blobAlreadyExists) // azure-storage-blob: upload_blob(overwrite=False)
	put("If-None-Match", tag).want(412, conditionNotMet)
	put("If-Match", `"0x1"`).want(412, conditionNotMet)
	put("If-Unmodified-Since", "Thu, 01 Jan 2026 00:00:00 GMT").want(412, conditionNotMet)
	put("If-Modified-Since", "yesterday").want(400, invalidHeaderValue)
	put("x-ms-lease-id", "00000000-0000-0000-0000-000000000000").want(412, leaseNotPresent)
	r.ask("PUT", "b", list, listOf(), "If-None-Match", "*").want(409, blobAlreadyExists)
	r.ask("GET", "b", "", "", "If-Match", `"0x1"`).want(412, conditionNotMet)
	if a := r.ask("GET", "b", "", "", "If-None-Match", tag).want(304, conditionNotMet); a.Body != "" {
		t.Errorf("%s", a.Body)
	}
	r.ask("HEAD", "b", "", "", "If-Modified-Since", "Sat, 03 Jan 2026 00:00:00 GMT").want(304, conditionNotMet)
	r.ask("DELETE", "b", "", "", "If-Match", `"0x1"`).want(412, conditionNotMet)
	put("If-Match", tag).want(201, "")
	tag = r.ask("HEAD", "b", "", "").Header.Get("ETag")
	r.ask("PUT", "b", "&comp=metadata", "", "x-ms-meta-a", "1", "If-Match", tag).want(200, "")
	r.ask("PUT", "b", "&comp=metadata", "", "x-ms-meta-a", "2", "If-Match", tag).want(412, conditionNotMet) // how processors share partitions
	r.ask("PUT", "none", "&comp=metadata", "").want(404, blobNotFound)
	r.ask("DELETE", "b", "", "", "If-Match", "*").want(202, "")
}

func TestWhatASASAllows(t *testing.T) {
	r := newRig(t)
	r.put("b", "x")
	with := func(method, permissions, extra string, headers ...string) *answer {
		return r.askRaw(method, "/uploads/b"+r.sas("b", permissions)+extra, "y", append(headers, "x-ms-blob-type", "BlockBlob")...)
	}
	with("PUT", "r", "").want(403, authorizationPermissionMismatch)
	with("PUT", "r", blockQuery("1")).want(403, authorizationPermissionMismatch)
	with("GET", "w", "").want(403, authorizationPermissionMismatch)
	with("DELETE", "rw", "").want(403, authorizationPermissionMismatch) // what devices get
	with("PUT", "c", "").want(403, unauthorizedBlobOverwrite)
	with("GET", "rw", "").want(200, "")
	for name, uri := range map[string]string{
		"another blob": "/uploads/c" + r.sas("b", "rw"), "forged": "/uploads/b" + strings.Replace(r.sas("b", "r"), "sp=r", "sp=rwd", 1),
		"without a signature's text": "/uploads/b?sig=", "another account's key": "/uploads/b" + blob.SharedKey{Account: key.Account, Key: []byte("x")}.SignBlob(blob.Resource{Container: "uploads", Blob: "b"}, "r", start.Add(time.Hour)),
	} {
		if a := r.askRaw("GET", uri, "").want(403, authenticationFailed); !strings.Contains(a.Body, "<AuthenticationErrorDetail>") {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	r.askRaw("GET", "/uploads/b", "").want(401, noAuthenticationInformation)
	r.askRaw("GET", "/uploads?restype=container&comp=list&"+r.sas("b", "rl")[1:], "").want(403, authenticationFailed)
	r.askRaw("PUT", "/iolitestorage/new?restype=container&"+key.SignAccount("o", "c", start.Add(time.Hour)), "", "Content-Length", "0").want(403, authorizationResourceTypeMismatch)
	r.askRaw("GET", "/uploads/b", "", "Authorization", "SharedKey iolitestorage:AAAA").want(403, authenticationFailed)
	r.askRaw("GET", "/uploads/b", "", "Authorization", "Bearer token").want(403, authenticationFailed)
}

func TestContainers(t *testing.T) {
	r := newRig(t)
	r.askAccount("PUT", "/iolitestorage/uploads", "restype=container", "", "Content-Length", "0").want(409, containerAlreadyExists)
	r.askAccount("GET", "/iolitestorage/none", "restype=container", "").want(404, containerNotFound)
	r.askAccount("GET", "/iolitestorage/none", "restype=container&comp=list", "").want(404, containerNotFound)
	r.askAccount("GET", "/iolitestorage/none/b", "", "").want(404, containerNotFound)
	r.askAccount("PUT", "/iolitestorage/none/b", "", "x", "x-ms-blob-type", "BlockBlob").want(404, containerNotFound)
	r.askAccount("DELETE", "/iolitestorage/none", "restype=container", "").want(404, containerNotFound)
	r.askAccount("POST", "/iolitestorage/uploads", "restype=container", "").want(405, unsupportedHTTPVerb)
	r.askAccount("GET", "/iolitestorage/uploads", "restype=container&comp=list&maxresults=0", "").want(400, invalidQueryParameterValue)
	r.askAccount("GET", "/iolitestorage/uploads", "restype=container&comp=list&marker=%23", "").want(400, invalidQueryParameterValue)
	r.askAccount("PUT", "/iolitestorage/uploads/b", "", "x").want(400, missingRequiredHeader)
	r.askAccount("PUT", "/iolitestorage/uploads/b", "", "x", "x-ms-blob-type", "PageBlob").want(501, notImplemented)
	r.askAccount("PUT", "/iolitestorage/uploads/b", "", "x", "x-ms-blob-type", "BlockBlob", "x-ms-meta-a!", "x").want(400, invalidMetadata)
	r.askAccount("PUT", "/iolitestorage/uploads/b", "", "x", "x-ms-blob-type", "BlockBlob", "x-ms-meta-a", strings.Repeat("x", maxMetadata)).want(400, metadataTooLarge)
	r.askAccount("PUT", "/iolitestorage/uploads/b", "", "", "x-ms-blob-type", "BlockBlob", "x-ms-copy-source", "https://x/y", "Content-Length", "0").want(501, notImplemented)
	for _, header := range beyondHeaders {
		r.askAccount("PUT", "/iolitestorage/uploads/b", "", "x", "x-ms-blob-type", "BlockBlob", header, "x").want(501, notImplemented)
	}
	r.askAccount("GET", "/iolitestorage/uploads/b", "snapshot=2026-01-01T00:00:00.0000000Z", "").want(501, notImplemented)
	r.askAccount("GET", "/iolitestorage/uploads", "restype=container&comp=list&include=metadata,uncommittedblobs", "").want(501, notImplemented)
	r.askAccount("DELETE", "/iolitestorage/uploads/b", "", "", "x-ms-delete-snapshots", "only").want(501, notImplemented)
	r.askAccount("PUT", "/iolitestorage/uploads/b", "", "x", "x-ms-blob-type", "BlockBlob", "x-ms-encryption-algorithm", "AES256").want(201, "") // @azure/storage-blob 12.8
	if !strings.Contains(r.log.String(), "blobs of the kind PageBlob") {
		t.Errorf("log %s", r.log)
	}
}

// Nothing is written of a body that is cut off, and the space it took is free again.
func TestBodiesThatLieAboutTheirLength(t *testing.T) {
	r := newRig(t)
	used, _, _ := r.blobs.Usage(context.Background())
	for _, c := range []struct {
		query, header string
	}{
		{r.sas("b", "w"), "x-ms-blob-type: BlockBlob\r\n"}, {r.sas("b", "w") + blockQuery("1"), ""}, {r.sas("b", "w") + list, ""},
	} {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		must(t, err)
		_, err = fmt.Fprintf(conn, "PUT /uploads/b%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: 3000000\r\n\r\n%s", c.query, c.header, strings.Repeat("<", 2_000_000))
		must(t, err)
		must(t, conn.(*net.TCPConn).CloseWrite())
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		if response.StatusCode != 400 {
			t.Errorf("%s: %s", c.query, response.Status)
		}
		_ = conn.Close()
	}
	r.ask("GET", "b", list+"&blocklisttype=all", "").want(404, blobNotFound)
	if now, _, _ := r.blobs.Usage(context.Background()); now != used {
		t.Errorf("%d bytes are counted, %d before", now, used)
	}
}

func TestBodiesWithoutALengthAreRefused(t *testing.T) {
	r := newRig(t)
	for _, query := range []string{"", blockQuery("1"), list} {
		request, err := http.NewRequest("PUT", r.server.URL+"/uploads/b"+r.sas("b", "w")+query, io.MultiReader(strings.NewReader("chunked")))
		must(t, err)
		request.Header.Set("x-ms-blob-type", "BlockBlob")
		r.do(request).want(411, missingContentLengthHeader)
	}
}

func TestSpaceEnds(t *testing.T) {
	r := newSizedRig(t, 4<<20)
	big := strings.Repeat("x", 3<<20)
	r.ask("PUT", "b", blockQuery("1"), big).want(201, "")
	a := r.ask("PUT", "b", blockQuery("2"), big).want(413, requestBodyTooLarge)
	if !strings.Contains(a.Body, "--blob-space") {
		t.Errorf("%s", a.Body)
	}
	r.ask("PUT", "other", "", strings.Repeat("x", 5<<20), "x-ms-blob-type", "BlockBlob").want(413, requestBodyTooLarge)
	r.ask("PUT", "b", list, listOf("1")).want(201, "")
	r.ask("DELETE", "b", "", "").want(202, "")
	r.put("other", big)
}

func TestOwns(t *testing.T) {
	s := New(Config{Key: key, Container: "uploads"})
	for path, want := range map[string]bool{
		"/uploads": true, "/uploads/x": true, "/iolitestorage": true, "/iolitestorage/a/b": true,
		"/": false, "/uploadsx": false, "/devices/uploads": false, "/devices/d/files": false, "//uploads": false,
	} {
		request, err := http.NewRequest("GET", "http://h"+path, nil)
		must(t, err)
		if s.Owns(request) != want {
			t.Errorf("%s", path)
		}
	}
}

func FuzzBlockList(f *testing.F) {
	f.Add(listOf("1", "2"))
	f.Add("<BlockList><Committed>MQ==</Committed><Uncommitted>MQ==</Uncommitted></BlockList>")
	f.Add("<BlockList><!-- x --><Latest> MQ== </Latest></BlockList>")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseBlockList(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, ref := range list {
			if ref.ID == "" || len(ref.ID) > maxBlockID || ref.From > store.BlockCommitted {
				t.Errorf("%q", ref)
			}
		}
		if n := strings.Count(text, "<"); len(list) > n {
			t.Errorf("%d blocks of %d tags", len(list), n)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, text := range []string{"bytes=0-9", "bytes=5-", "bytes=-5", "bytes=9-1", "bytes=0-9223372036854775807"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := parseRange(text)
		if !ok {
			return
		}
		if r.first < 0 || r.last < -1 || r.last >= 0 && r.last < r.first {
			t.Errorf("%q: %+v", text, r)
		}
		again := fmt.Sprintf("bytes=%d-", r.first)
		if r.last >= 0 {
			again += strconv.FormatInt(r.last, 10)
		}
		if back, ok := parseRange(again); !ok || back != r {
			t.Errorf("%q: %+v, and again %+v", text, r, back)
		}
	})
}

func FuzzTarget(f *testing.F) {
	s := New(Config{Key: key, Container: "uploads"})
	for _, path := range []string{"/uploads/a/b", "/iolitestorage/uploads/a%2Fb", "/iolitestorage", "/x", "/uploads/%zz", "//"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		target, err := s.parseTarget(path)
		if err != nil {
			return
		}
		if (target.level == atBlob) != (target.blob != "") || (target.level == atAccount) != (target.container == "") || target.container != "" && !blob.IsContainerName(target.container) {
			t.Errorf("%q: %+v", path, target)
		}
	})
}

// BenchmarkUpload250MB is what a device's storage SDK does: blocks of 4 MiB, put one after the other, and their list.
func BenchmarkUpload250MB(b *testing.B) {
	const size, blockSize = 250 << 20, 4 << 20
	r := newSizedRig(b, 1<<30)
	block := strings.Repeat("0123456789abcdef", blockSize/16)
	b.SetBytes(size)
	for b.Loop() {
		var ids []string
		for at := 0; at < size; at += blockSize {
			id := fmt.Sprintf("%05d", at/blockSize)
			r.ask("PUT", "b", blockQuery(id), block[:min(blockSize, size-at)]).want(201, "")
			ids = append(ids, id)
		}
		r.ask("PUT", "b", list, listOf(ids...)).want(201, "")
	}
}

// The deadlines of reading and of writing end together, and the answer comes after both.
func TestABodyThatNeverComesIsAnswered(t *testing.T) {
	r := newRig(t)
	s := httptest.NewUnstartedServer(r.server.Config.Handler)
	s.Config.ReadTimeout, s.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	s.Start()
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "PUT /uploads/b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
	must(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", answer.StatusCode)
	}
}

// A body that comes slowly, but comes, has more time than the door gives a request.
func TestDeadlinesArePutOff(t *testing.T) {
	var set []time.Time
	d := deadline{set: func(at time.Time) error {
		set = append(set, at)
		return nil
	}}
	d.renew()
	d.renew()
	if len(set) != 1 || set[0].Before(clock.Wall().Add(patience-time.Second)) {
		t.Fatalf("%v", set)
	}
	d.next = clock.Wall().Add(-time.Second)
	if d.renew(); len(set) != 2 {
		t.Errorf("%v", set)
	}
}
