package control

import "testing"

// fullRouting has something of everything.
const fullRouting = `{
	"endpoints": {
		"eventHubs": [{"name": "hot", "consumerGroups": ["one"]}, {"name": "far", "connectionString": "Endpoint=sb://far/;EntityPath=x"}],
		"serviceBusQueues": [{"name": "q", "connectionString": "Endpoint=sb://far/;EntityPath=q"}],
		"serviceBusTopics": [{"name": "t", "connectionString": "Endpoint=sb://far/;EntityPath=t"}],
		"storageContainers": [{"name": "s", "connectionString": "AccountName=x", "containerName": "c", "encoding": "JSON"}]
	},
	"routes": [{"name": "r", "source": "DeviceMessages", "condition": "level = 'hot'", "endpointNames": ["hot"]}],
	"enrichments": [{"key": "hub", "value": "$iothubname", "endpointNames": ["hot", "events"]}]
}`

func TestRoutingIsSetAndTested(t *testing.T) {
	r := newRig(t)
	r.ask("GET", "/iolite/v1/routing", "").want(200).has(`"routes": []`).has(`"fallbackRoute"`)
	r.ask("PUT", "/iolite/v1/routing", fullRouting).want(200).has(`"partitions": 4`).has(`"isEnabled": true`)
	r.ask("GET", "/iolite/v1/routing", "").want(200).has(`"condition": "level = 'hot'"`)
	r.ask("GET", "/iolite/v1/routing/health", "").want(200).has(`"endpointId": "far"`).has(`"healthStatus": "unknown"`).has(`"waitingMessages": 0`)
	r.ask("POST", "/iolite/v1/routing/test", `{"message":{"appProperties":{"level":"hot"}}}`).want(200).has(`"name": "r"`).has(`"hot"`).has(`"fallback": false`)
	r.ask("POST", "/iolite/v1/routing/test", `{"message":{"appProperties":{"level":"cold"}}}`).want(200).has(`"routes": []`).has(`"events"`).has(`"fallback": true`)
	r.ask("POST", "/iolite/v1/routing/test", `{"routingSource":"Nothing","message":{}}`).want(400).has("DeviceMessages")
}

func TestARouteIsTriedOnItsOwn(t *testing.T) {
	r := newRig(t)
	r.ask("POST", "/iolite/v1/routing/testroute", `{"route":{"condition":"a = 'b'"},"message":{"appProperties":{"a":"b"}}}`).want(200).has(`"result": "true"`)
	r.ask("POST", "/iolite/v1/routing/testroute", `{"route":{"condition":"a = "},"message":{}}`).want(200).has(`"result": "undefined"`).has(`"column": 5`)
	r.ask("POST", "/iolite/v1/routing/testroute", `[]`).want(400)
}

func TestABadRoutingIsRefusedWithItsPlace(t *testing.T) {
	r := newRig(t)
	for body, why := range map[string]string{
		`{`:                  "unexpected EOF",
		`{"route":[]}`:       "unknown field",
		`{"routes":[]} more`: "more after",
		`{"routes":[{"name":"r","source":"DeviceMessages","condition":"a = 'x' AND","endpointNames":["events"]}]}`: "routes[0] (r).condition: line 1, column 12",
	} {
		r.ask("PUT", "/iolite/v1/routing", body).want(400).has(why)
	}
	r.ask("GET", "/iolite/v1/routing", "").want(200).has(`"routes": []`)
	r.ask("DELETE", "/iolite/v1/routing", "").want(405).has("GET, PUT")
}
