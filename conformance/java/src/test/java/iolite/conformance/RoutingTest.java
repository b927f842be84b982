package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.google.gson.JsonObject;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Routes to further event hubs, conditions, enrichments, and the search of the control API, on a hub of their own. */
class RoutingTest {
    private static final String HOT = "{\"engine\":{\"temperature\":91}}";
    private static final String COLD = "{\"engine\":{\"temperature\":20}}";

    private static Hub hub;

    @BeforeAll
    static void start() throws Exception {
        hub = Hubs.own();
    }

    @AfterAll
    static void stop() throws Exception {
        hub.close();
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aRouteTakesWhatItsConditionMatchesAndTheFallbackRouteTheRest(IotHubClientProtocol door) throws Exception {
        hub.route("""
                {"endpoints": {"eventHubs": [{"name": "alarms", "partitions": 2}]},
                 "routes": [{"name": "hot", "source": "DeviceMessages", "endpointNames": ["alarms"],
                             "condition": "severity = 'high' AND $body.engine.temperature > 90"}]}""");
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try (Events alarms = Events.allOf(hub.eventHub("alarms")); Events builtIn = Events.allOf(hub.eventHub())) {
            send(client, json(COLD, "severity", "high"), json(HOT, "severity", "low"), json(HOT, "severity", "high"),
                    new Message("the last"));
            PartitionEvent alarm = alarms.of(device, 1).get(0);
            assertEquals(HOT, alarm.getData().getBodyAsString());
            assertEquals("high", alarm.getData().getProperties().get("severity"));
            assertEquals("Telemetry", String.valueOf(alarm.getData().getSystemProperties().get("iothub-message-source")));
            assertEquals(List.of(COLD, HOT, "the last"), Events.bodies(builtIn.of(device, 3)));
            assertEquals(1, alarms.of(device, 1).size());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "$connectionDeviceId = '{id}'", "$contentType = 'application/json' AND $contentEncoding = 'utf-8'",
        "$messageId = 'm-1'", "STARTS_WITH($connectionDeviceId, 'java-')", "$twin.tags.place = 'roof'",
        "$twin.properties.desired.interval = 5", "$body.engine.temperature = 91", "as_number(level) > 2"})
    void aConditionLooksAtPropertiesBodyAndTwin(String condition) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin patch = new Twin(device.id());
        patch.getTags().put("place", "roof");
        patch.getDesiredProperties().put("interval", 5);
        new TwinClient(hub.owner()).patch(patch);
        hub.route("""
                {"endpoints": {"eventHubs": [{"name": "chosen"}]}, "fallbackRoute": {"isEnabled": false},
                 "routes": [{"name": "chosen", "source": "DeviceMessages", "endpointNames": ["chosen"], "condition": "%s"}]}"""
                .formatted(condition.replace("{id}", device.id())));
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try {
            Message message = json(HOT, "level", "3");
            message.setMessageId("m-1");
            send(client, message);
            assertEquals(1, hub.find("eventHub", "chosen", "deviceId", device.id(), "timeout", "10s").size());
            assertEquals(List.of(), hub.find("deviceId", device.id()));
        } finally {
            client.close();
        }
    }

    @Test
    void enrichmentsAreAddedForTheirEndpointAndChangeNothingThatTheDeviceSaid() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin patch = new Twin(device.id());
        patch.getTags().put("place", Map.of("room", "kitchen"));
        new TwinClient(hub.owner()).patch(patch);
        hub.route("""
                {"endpoints": {"eventHubs": [{"name": "rich"}]},
                 "routes": [{"name": "rich", "source": "DeviceMessages", "endpointNames": ["rich"]},
                            {"name": "plain", "source": "DeviceMessages", "endpointNames": ["events"]}],
                 "enrichments": [{"key": "stage", "value": "test", "endpointNames": ["rich"]},
                                 {"key": "hub", "value": "$iothubname", "endpointNames": ["rich", "events"]},
                                 {"key": "room", "value": "$twin.tags.place.room", "endpointNames": ["rich"]},
                                 {"key": "missing", "value": "$twin.tags.nowhere", "endpointNames": ["rich"]},
                                 {"key": "mine", "value": "the hub wrote this", "endpointNames": ["rich"]}]}""");
        DeviceClient client = device.open(IotHubClientProtocol.AMQPS);
        try (Events rich = Events.allOf(hub.eventHub("rich")); Events plain = Events.allOf(hub.eventHub())) {
            send(client, json(HOT, "mine", "the device wrote this"));
            Map<String, Object> enriched = rich.only(device).getProperties();
            assertEquals("test", enriched.get("stage"));
            assertEquals(hub.eventHubName(), enriched.get("hub"));
            assertEquals("kitchen", enriched.get("room"));
            assertEquals("$twin.tags.nowhere", enriched.get("missing"));
            assertEquals("the device wrote this", enriched.get("mine"));
            Map<String, Object> others = plain.only(device).getProperties();
            assertEquals(hub.eventHubName(), others.get("hub"));
            assertTrue(!others.containsKey("stage") && !others.containsKey("room"), others.toString());
        } finally {
            client.close();
        }
    }

    @Test
    void anEndpointGetsAMessageOnceAndInOrderHoweverManyRoutesMatch() throws Exception {
        hub.route("""
                {"endpoints": {"eventHubs": [{"name": "wide", "partitions": 8}]},
                 "routes": [{"name": "one", "source": "DeviceMessages", "endpointNames": ["wide"]},
                            {"name": "two", "source": "DeviceMessages", "endpointNames": ["wide"], "condition": "a = '1'"},
                            {"name": "off", "source": "DeviceMessages", "endpointNames": ["events"], "isEnabled": false}]}""");
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try (Events wide = Events.allOf(hub.eventHub("wide"))) {
            send(client, json("0", "a", "1"), json("1", "a", "2"), json("2", "a", "1"), json("3", "a", "2"));
            assertEquals(List.of("0", "1", "2", "3"), Events.bodies(wide.of(device, 4)));
            assertEquals(List.of(), hub.find("deviceId", device.id()));
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"temperature >", "severity = 'high", "severity = 5 5", "IN(severity, 'a')", "UNKNOWN_FUNCTION(a)", "$twin."})
    void aBrokenConditionIsRefusedWithItsPlaceAndNothingChanges(String condition) throws Exception {
        hub.route("{}");
        JsonObject before = hub.routing();
        Hub.Refused refusal = assertThrows(Hub.Refused.class, () -> hub.route("""
                {"routes": [{"name": "the-broken-one", "source": "DeviceMessages", "endpointNames": ["events"], "condition": "%s"}]}"""
                .formatted(condition)));
        assertEquals(400, refusal.answer.status());
        assertTrue(refusal.answer.body().contains("the-broken-one"), refusal.answer.body());
        assertTrue(refusal.answer.body().contains("line 1, column"), refusal.answer.body());
        assertEquals(before, hub.routing());
    }

    @Test
    void oneCallWaitsForTheEventThatMatches() throws Exception {
        hub.route("{}");
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.AMQPS_WS);
        try {
            send(client, json(COLD, "room", "kitchen"), json(HOT, "room", "cellar"), json(HOT, "room", "kitchen"));
            List<JsonObject> found = hub.find("deviceId", device.id(), "property.room", "kitchen",
                    "body.engine.temperature", "91", "timeout", "10s");
            assertEquals(1, found.size());
            JsonObject event = found.get(0);
            assertEquals(HOT, event.get("json").toString());
            assertEquals("kitchen", event.getAsJsonObject("properties").get("room").getAsString());
            assertEquals("application/json", event.getAsJsonObject("systemProperties").get("content-type").getAsString());
            assertEquals(2, hub.find("deviceId", device.id(), "condition", "$body.engine.temperature > 90").size());
            Hub.Refused nothing = assertThrows(Hub.Refused.class,
                    () -> hub.find("deviceId", device.id(), "property.room", "attic", "timeout", "10ms"));
            assertEquals(404, nothing.answer.status());
        } finally {
            client.close();
        }
    }

    private static void send(DeviceClient client, Message... messages) throws Exception {
        for (Message message : messages) {
            client.sendEvent(message, Messages.SEND_MILLIS);
        }
    }

    /** A message that says that it is JSON, with one property. */
    private static Message json(String body, String name, String value) {
        Message message = new Message(body);
        message.setContentType("application/json");
        message.setContentEncoding("utf-8");
        message.setProperty(name, value);
        return message;
    }
}
