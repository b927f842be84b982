package control

import (
	"strings"
	"testing"

	"github.com/iolite-emulator/iolite/hub"
)

func TestEventHubsAndConsumerGroupsAreMadeListedAndDeleted(t *testing.T) {
	r := newRig(t)
	r.ask("GET", "/iolite/v1/eventhubs", "").want(200).has(`"name": "iolite"`).has(`"builtIn": true`).has(`"lastEnqueuedOffset": "-1"`).has(`"$Default"`)
	r.ask("PUT", "/iolite/v1/eventhubs/Alerts", "").want(200).has(`"id": "3"`).has(`EntityPath=Alerts"`)
	r.ask("PUT", "/iolite/v1/eventhubs/alerts", `{"partitions":4,"consumerGroups":["dashboard"]}`).want(200).has(`"name": "Alerts"`).has(`"dashboard"`)
	r.ask("PUT", "/iolite/v1/eventhubs/alerts", `{"partitions":5}`).want(400).has("4 partitions already")
	r.ask("PUT", "/iolite/v1/eventhubs/alerts", `{"partition":4}`).want(400).has("unknown field")
	r.ask("PUT", "/iolite/v1/eventhubs/a%2Fb", "").want(400).has("bad event hub name")
	r.ask("PUT", "/iolite/v1/eventhubs/a", strings.Repeat(" ", maxEventHubBody+1)).want(413)
	r.ask("PUT", "/iolite/v1/eventhubs/alerts/consumergroups/archive", "").want(200).has(`"readers": []`)
	r.ask("PUT", "/iolite/v1/eventhubs/alerts/consumergroups/-", "").want(400)
	r.ask("GET", "/iolite/v1/eventhubs/alerts/consumergroups/ARCHIVE", "").want(200).has(`"name": "archive"`)
	level := int64(7)
	_, err := r.hub.Admin().OpenReader(t.Context(), hub.ReaderOptions{EventHub: "alerts", Group: "archive", Partition: "2", OwnerLevel: &level, Name: "me"})
	must(t, err)
	r.ask("GET", "/iolite/v1/eventhubs/alerts/consumergroups/archive", "").want(200).has(`"partition": "2"`).has(`"ownerLevel": 7`).has(`"name": "me"`)
	r.ask("DELETE", "/iolite/v1/eventhubs/alerts/consumergroups/archive", "").want(204)
	r.ask("DELETE", "/iolite/v1/eventhubs/alerts/consumergroups/archive", "").want(404).has("Alerts|archive")
	r.ask("GET", "/iolite/v1/eventhubs/alerts/consumergroups/archive", "").want(404)
	r.ask("DELETE", "/iolite/v1/eventhubs/alerts/consumergroups/$Default", "").want(400)
	r.ask("DELETE", "/iolite/v1/eventhubs/iolite", "").want(400)
	r.ask("DELETE", "/iolite/v1/eventhubs/alerts", "").want(204)
	r.ask("GET", "/iolite/v1/eventhubs/alerts", "").want(404).has("The event hubs here are: iolite.")
	r.ask("POST", "/iolite/v1/eventhubs/alerts", "").want(405)
}
