package egress

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"github.com/iolite-emulator/iolite/hub"
)

const (
	azuritePort = "35680"
	// azuriteString is the account of every Azurite (article "Use the Azurite emulator for local Azure Storage development").
	azuriteString = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;" +
		"BlobEndpoint=http://" + nearAddress + ":" + azuritePort + "/devstoreaccount1;"
)

// newAzurite starts one that ends with the test, and returns a client of it.
func newAzurite(t *testing.T) *azblob.Client {
	t.Helper()
	main := os.Getenv("IOLITE_AZURITE")
	if main == "" {
		lacks(t, "Azurite (npm)")
	}
	var log lockedBuffer
	azurite := exec.Command("node", main, "--blobHost", nearAddress, "--blobPort", azuritePort, "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent")
	azurite.Stdout, azurite.Stderr = &log, &log
	must(t, azurite.Start())
	t.Cleanup(func() {
		_ = azurite.Process.Kill()
		_ = azurite.Wait()
		if t.Failed() {
			t.Logf("--- Azurite\n%s", log.String())
		}
	})
	c, err := azblob.NewClientFromConnectionString(azuriteString, nil)
	must(t, err)
	eventually(t, "Azurite answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.ServiceClient().GetProperties(ctx, nil)
		return err == nil
	})
	return c
}

// line is what a blob holds for each message.
type line struct {
	EnqueuedTimeUtc  time.Time
	Properties       map[string]string
	SystemProperties map[string]string
	Body             json.RawMessage
}

// lines reads every blob of a container.
func lines(t *testing.T, c *azblob.Client, container string) (all []line, names []string) {
	t.Helper()
	pager := c.NewListBlobsFlatPager(container, nil)
	for pager.More() {
		page, err := pager.NextPage(deadline(t))
		must(t, err)
		for _, item := range page.Segment.BlobItems {
			names = append(names, *item.Name)
			blob, err := c.DownloadStream(deadline(t), container, *item.Name, nil)
			must(t, err)
			for d := json.NewDecoder(blob.Body); d.More(); {
				var one line
				must(t, d.Decode(&one))
				all = append(all, one)
			}
			must(t, blob.Body.Close())
		}
	}
	return all, names
}

// containers are endpoints that write into one container, under the same names.
func containers(names ...string) (e hub.Endpoints) {
	for _, name := range names {
		e.StorageContainers = append(e.StorageContainers, hub.ContainerEndpoint{
			Name: name, ConnectionString: azuriteString, ContainerName: "routed", Encoding: "JSON", FileNameFormat: "{YYYY}-{MM}-{DD}/{HH}.{mm}/{partition}/{iothub}.json", BatchFrequencyInSeconds: 60,
		})
	}
	return e
}

func TestMessagesAreWrittenIntoAContainerInBatches(t *testing.T) {
	c := newAzurite(t)
	route(t, containers("s"), "s")
	d := newDevice(t)
	const n = 1000
	d.send(t, numbered(0, n)...)
	if got := health(t, "s"); got.WaitingMessages != n || got.HealthStatus != hub.HealthUnknown {
		t.Fatalf("before its time: %+v", got)
	}
	_, err := near.control.Advance(deadline(t), time.Minute)
	must(t, err)
	// The container is not there: nothing is lost by that.
	eventually(t, "the endpoint is unhealthy", func() bool { return health(t, "s").HealthStatus == hub.HealthUnhealthy })
	if got := health(t, "s"); got.LastKnownError != "NotFound" || got.WaitingMessages != n {
		t.Errorf("%+v", got)
	}
	_, err = c.CreateContainer(deadline(t), "routed", nil)
	must(t, err)
	eventually(t, "the batch is written", func() bool { return health(t, "s").WaitingMessages == 0 })
	all, names := lines(t, c, "routed")
	if len(all) != n || len(names) != 1 {
		t.Fatalf("%d messages in %v", len(all), names)
	}
	state, err := near.control.Clock(deadline(t))
	must(t, err)
	if prefix := state.Now.UTC().Format("2006-01-02/15."); !strings.HasPrefix(names[0], prefix) || !strings.HasSuffix(names[0], "/iolite.json") {
		t.Errorf("the blob is called %s, not %s...", names[0], prefix)
	}
	for i, one := range all {
		if string(one.Body) != fmt.Sprintf(`{"n":%d}`, i) || one.Properties["level"] != "hot" || one.Properties["hub"] != "iolite" || one.SystemProperties["connectionDeviceId"] != d.id ||
			one.SystemProperties["contentType"] != "application/json" || one.SystemProperties["messageId"] != "m1" || one.EnqueuedTimeUtc.IsZero() {
			t.Fatalf("message %d is %+v, body %s", i, one, one.Body)
		}
	}
}

// The blobs have more than 8 MiB, so that they are put in blocks, and both endpoints want the same name.
func TestLargeBatchesOfOneNameDoNotReplaceEachOther(t *testing.T) {
	c := newAzurite(t)
	_, err := c.CreateContainer(deadline(t), "routed", nil)
	must(t, err)
	route(t, containers("one", "two"), "one", "two")
	d := newDevice(t)
	const n = 60
	body := `"` + strings.Repeat("x", 200_000) + `"`
	for range n {
		d.send(t, body)
	}
	state, err := near.control.Clock(deadline(t))
	must(t, err)
	wait := time.Minute
	if state.Now.Second() > 30 {
		wait += 30 * time.Second // both are to write within the same minute
	}
	_, err = near.control.Advance(deadline(t), wait)
	must(t, err)
	for _, name := range []string{"one", "two"} {
		eventually(t, "the batch is written", func() bool { return health(t, name).WaitingMessages == 0 })
	}
	all, names := lines(t, c, "routed")
	if len(all) != 2*n || len(names) != 2 || names[1] != names[0]+"_01" {
		t.Fatalf("%d messages in %v", len(all), names)
	}
	for _, one := range all {
		if string(one.Body) != body {
			t.Fatalf("a body has %d bytes", len(one.Body))
		}
	}
}

func TestMessagesAreWrittenIntoTheHubsOwnStorage(t *testing.T) {
	connection := near.backend.Info().StorageConnectionString
	c, err := azblob.NewClientFromConnectionString(connection, &azblob.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: &http.Transport{TLSClientConfig: near.tls.Clone()}},
	}})
	must(t, err)
	_, err = c.CreateContainer(deadline(t), "routed", nil)
	must(t, err)
	endpoints := containers("s")
	endpoints.StorageContainers[0].ConnectionString = connection
	route(t, endpoints, "s")
	newDevice(t).send(t, numbered(0, 10)...)
	_, err = near.control.Advance(deadline(t), time.Minute)
	must(t, err)
	eventually(t, "the batch is written", func() bool { return health(t, "s").WaitingMessages == 0 })
	if all, names := lines(t, c, "routed"); len(all) != 10 || len(names) != 1 {
		t.Errorf("%d messages in %v", len(all), names)
	}
}
