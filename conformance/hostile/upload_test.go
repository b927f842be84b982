package hostile

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/blob"
	"github.com/iolite-emulator/iolite/door"
)

// ticket is what a device is given for an upload.
type ticket struct {
	CorrelationID, HostName, ContainerName, BlobName, SASToken string
}

func (u *ticket) path() string { return "/" + u.ContainerName + "/" + u.BlobName + u.SASToken }

// upload begins an upload of a device of a hub.
func (h *instance) upload(t *testing.T, d backend.Device, name string) (u ticket, status int) {
	t.Helper()
	answer := h.send(t, http.MethodPost, "/devices/"+d.DeviceID+"/files?api-version=2021-04-12", `{"blobName":"`+name+`"}`, "Authorization", h.token(t, d))
	if answer.status == http.StatusOK {
		must(t, json.Unmarshal([]byte(answer.body), &u))
	}
	return u, answer.status
}

// reply is an answer with the storage's error code.
type reply struct {
	status     int
	code, body string
}

// send makes a request as it is told; headers are pairs.
func (h *instance) send(t *testing.T, method, uri, body string, headers ...string) reply {
	t.Helper()
	at, err := h.backend.Address(door.HTTPS)
	must(t, err)
	r, err := http.NewRequestWithContext(deadline(t), method, "https://"+at+uri, strings.NewReader(body))
	must(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: h.backend.TLS(), DisableKeepAlives: true}}
	answer, err := c.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return reply{answer.StatusCode, answer.Header.Get("x-ms-error-code"), string(text)}
}

func block(id string) string {
	return "&comp=block&blockid=" + strings.NewReplacer("=", "%3D", "+", "%2B", "/", "%2F").Replace(base64.StdEncoding.EncodeToString([]byte(id)))
}

// blocks is a block list of ids.
func blocks(ids ...string) string {
	list := ""
	for _, id := range ids {
		list += "<Latest>" + base64.StdEncoding.EncodeToString([]byte(id)) + "</Latest>"
	}
	return "<BlockList>" + list + "</BlockList>"
}

func TestEleventhUploadIsRefused(t *testing.T) {
	attack(t)
	d := target.device(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 32 { // all at once
		wg.Go(func() {
			_, status := target.upload(t, d, "x")
			mu.Lock()
			count[status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if count[http.StatusOK] != 10 || count[http.StatusForbidden] != 22 {
		t.Errorf("of 32: %v", count)
	}
}

// A device may say what it likes: nobody is told of a file that is not there, and no upload is another device's.
func TestUploadsThatAreNone(t *testing.T) {
	attack(t)
	d, other := target.device(t), target.device(t)
	u, _ := target.upload(t, d, "x")
	notify := func(d backend.Device, body string) int {
		return target.send(t, http.MethodPost, "/devices/"+d.DeviceID+"/files/notifications?api-version=2021-04-12", body, "Authorization", target.token(t, d)).status
	}
	for _, body := range []string{
		"", "{}", "[]", "null", `{"correlationId":7}`, `{"correlationId":"` + strings.Repeat("x", 100_000) + `","isSuccess":true}`, `{"correlationId":"\u0000"}`,
		`{"correlationId":"` + u.CorrelationID + `"}`, `{"correlationId":"` + u.CorrelationID + `","isSuccess":1}`, `{"correlationId":"` + u.CorrelationID + `","isSuccess":true}`,
	} {
		if status := notify(d, body); status != http.StatusBadRequest {
			t.Errorf("%.60s: %d", body, status)
		}
	}
	if status := notify(other, `{"correlationId":"`+u.CorrelationID+`","isSuccess":false}`); status != http.StatusBadRequest {
		t.Errorf("another device ends it: %d", status)
	}
	for _, name := range []string{"", "../" + other.DeviceID + "/x", "a/../../" + other.DeviceID + "/x", strings.Repeat("x", 1025), `a\u0000`, strings.Repeat("a/", 300) + "b"} {
		if _, status := target.upload(t, d, name); status != http.StatusBadRequest {
			t.Errorf("%.40s: %d", name, status)
		}
	}
}

// Bodies that are shorter or longer than they say, or say nothing, leave nothing behind.
func TestUploadBodiesThatLieAboutTheirLength(t *testing.T) {
	attack(t)
	u, _ := target.upload(t, target.device(t), "x")
	for _, query := range []string{"", block("1"), "&comp=blocklist"} {
		for _, head := range []string{"Content-Length: 5000000", "Content-Length: 99999999999999", "Content-Length: -1", "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked", "X: y"} {
			c, err := dialTLS(target, door.HTTPS)
			must(t, err)
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nx-ms-blob-type: BlockBlob\r\n%s\r\n\r\n%s", u.path()+query, head, "5\r\nhello\r\n0\r\n\r\n")
			if half, ok := c.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			for _, status := range answers(t, c) {
				if status < 400 {
					t.Errorf("%s %s: %d", query, head, status)
				}
			}
			_ = c.Close()
		}
	}
	if got := target.send(t, http.MethodGet, u.path()+"&comp=blocklist&blocklisttype=all", ""); got.status != http.StatusNotFound {
		t.Errorf("%+v", got)
	}
}

func TestBlocksOutOfOrderUnknownAndUnlisted(t *testing.T) {
	attack(t)
	u, _ := target.upload(t, target.device(t), "x")
	put := func(query, body string, want int, code string) {
		t.Helper()
		if got := target.send(t, http.MethodPut, u.path()+query, body); got.status != want || got.code != code {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, id := range []string{"3", "1", "2", "1"} {
		put(block(id), "<"+id+">", 201, "")
	}
	put(block("long id"), "x", 400, "InvalidBlobOrBlock")
	put("&comp=block&blockid=%25%25", "x", 400, "InvalidBlockId")
	put("&comp=blocklist", blocks("1", "4"), 400, "InvalidBlockList")
	put("&comp=blocklist", "<BlockList><Latest>", 400, "InvalidXmlDocument")
	put("&comp=blocklist", `<!DOCTYPE b [<!ENTITY a "MQ=="><!ENTITY c "&a;&a;&a;">]><BlockList><Latest>&c;</Latest></BlockList>`, 400, "InvalidXmlDocument")
	put("&comp=blocklist", "<BlockList>"+strings.Repeat("<Latest>MQ==</Latest>", 50_001)+"</BlockList>", 400, "BlockListTooLong")
	put("&comp=blocklist", strings.Repeat("<BlockList>", 500_000), 400, "InvalidXmlDocument")
	put("&comp=blocklist", blocks("2", "1", "3"), 201, "")
	if got := target.send(t, http.MethodGet, u.path(), ""); got.body != "<2><1><3>" {
		t.Errorf("%+v", got)
	}
}

// Only the SAS that the hub gave opens a blob, only that blob, and only until it ends.
func TestSASThatAreNone(t *testing.T) {
	attack(t)
	info, err := target.control.Info(deadline(t))
	must(t, err)
	account, err := blob.ParseAccount(info.StorageConnectionString)
	must(t, err)
	u, _ := target.upload(t, target.device(t), "x")
	stale := account.Key().SignBlob(blob.Resource{Container: u.ContainerName, Blob: u.BlobName}, "rw", time.Now().Add(-time.Minute))
	for name, uri := range map[string]string{
		"stale": "/" + u.ContainerName + "/" + u.BlobName + stale, "of another blob": "/" + u.ContainerName + "/other/x" + u.SASToken,
		"with more permissions": strings.Replace(u.path(), "sp=rw", "sp=rwd", 1), "with a later end": strings.Replace(u.path(), "se=20", "se=21", 1),
		"cut off": u.path()[:len(u.path())-20], "none": "/" + u.ContainerName + "/" + u.BlobName, "empty": "/" + u.ContainerName + "/" + u.BlobName + "?sig=&se=&sp=&sv=&sr=",
		"huge": "/" + u.ContainerName + "/" + u.BlobName + "?sv=2018-03-28&sr=b&sp=rw&se=2999-01-01&sig=" + strings.Repeat("A", 30_000),
	} {
		for _, method := range []string{http.MethodPut, http.MethodGet, http.MethodDelete} {
			if got := target.send(t, method, uri, "x", "x-ms-blob-type", "BlockBlob"); got.status != http.StatusForbidden && got.status != http.StatusUnauthorized {
				t.Errorf("%s %s: %+v", method, name, got)
			}
		}
	}
	if got := target.send(t, http.MethodDelete, u.path(), ""); got.code != "AuthorizationPermissionMismatch" {
		t.Errorf("a device deletes: %+v", got)
	}
}

// Blocks that nobody commits fill the space and no more: the hub says so, keeps its memory, and serves the others.
func TestBlocksFillTheSpaceAndNoMore(t *testing.T) {
	h := another(t, "--blob-space", "32")
	d := h.device(t)
	u, _ := h.upload(t, d, "x")
	body := strings.Repeat("x", 4<<20)
	refused := 0
	for i := range 32 {
		got := h.send(t, http.MethodPut, u.path()+block(fmt.Sprintf("%03d", i)), body)
		switch {
		case got.status == http.StatusRequestEntityTooLarge && got.code == "RequestBodyTooLarge":
			refused++
		case got.status != http.StatusCreated:
			t.Fatalf("block %d: %+v", i, got)
		}
	}
	if refused != 32-7 { // seven blocks and what is kept with them fit into 32 MiB
		t.Errorf("%d blocks of 32 are refused", refused)
	}
	if resident := h.gauge(t, "process_resident_memory_bytes"); resident > 200<<20 {
		t.Errorf("%s MiB are resident", strconv.FormatFloat(resident/(1<<20), 'f', 0, 64))
	}
	if got := h.send(t, http.MethodPut, u.path()+"&comp=blocklist", blocks("000", "001")); got.status != http.StatusCreated {
		t.Errorf("what is there can be committed: %+v", got)
	}
	if got := h.send(t, http.MethodPut, u.path()+block("new"), body); got.status != http.StatusCreated {
		t.Errorf("the others have made room: %+v", got)
	}
}
