package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.messaging.eventhubs.EventData;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Events other than telemetry, each kind routed to an event hub of its own: article "Azure IoT Hub non-telemetry event schemas". */
class NoticeTest {
    private static Hub hub;
    private static Events twins;
    private static Events lives;
    private static Events connections;

    @BeforeAll
    static void start() throws Exception {
        hub = Hubs.own();
        hub.route("""
                {"endpoints": {"eventHubs": [{"name": "twins"}, {"name": "lives"}, {"name": "connections"}]},
                 "routes": [{"name": "twins", "source": "TwinChangeEvents", "endpointNames": ["twins"]},
                            {"name": "lives", "source": "DeviceLifecycleEvents", "endpointNames": ["lives"]},
                            {"name": "connections", "source": "DeviceConnectionStateEvents", "endpointNames": ["connections"]}]}""");
        twins = Events.allOf(hub.eventHub("twins"));
        lives = Events.allOf(hub.eventHub("lives"));
        connections = Events.allOf(hub.eventHub("connections"));
    }

    @AfterAll
    static void stop() throws Exception {
        for (Events events : List.of(twins, lives, connections)) {
            events.close();
        }
        hub.close();
    }

    @Test
    void aTwinThatABackEndChangesIsTold() throws Exception {
        TestDevice device = TestDevice.on(hub);
        TwinClient client = new TwinClient(hub.owner());
        Twin patch = new Twin(device.id());
        patch.getTags().put("place", "roof");
        patch.getDesiredProperties().put("interval", 5);
        Twin patched = client.patch(patch);
        JsonObject body = check(twins.of(device, 1).get(0).getData(), device, null, "twinChangeEvents", "twinChangeNotification",
                "updateTwin");
        assertEquals(patched.getVersion(), body.get("version").getAsInt());
        assertEquals("{\"place\":\"roof\"}", body.get("tags").toString());
        JsonObject desired = body.getAsJsonObject("properties").getAsJsonObject("desired");
        assertEquals(5, desired.get("interval").getAsInt());
        assertEquals(patched.getDesiredProperties().getVersion(), desired.get("$version").getAsInt());
        assertTrue(desired.getAsJsonObject("$metadata").has("interval"), desired.toString());
        assertFalse(body.getAsJsonObject("properties").has("reported"));

        Twin replacement = new Twin(device.id());
        replacement.getTags().put("place", "cellar");
        client.replace(replacement);
        JsonObject whole = check(twins.of(device, 2).get(1).getData(), device, null, "twinChangeEvents", "twinChangeNotification",
                "replaceTwin");
        assertEquals(device.id(), whole.get("deviceId").getAsString());
        assertTrue(whole.getAsJsonObject("properties").has("reported"), whole.toString());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aTwinThatADeviceReportsIsTold(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.follow(client);
            Twins.report(client, Twins.of("battery", 80));
            JsonObject body = check(twins.of(device, 1).get(0).getData(), device, null, "twinChangeEvents",
                    "twinChangeNotification", "updateTwin");
            assertEquals(80, body.getAsJsonObject("properties").getAsJsonObject("reported").get("battery").getAsInt());
            assertFalse(body.has("tags") || body.getAsJsonObject("properties").has("desired"), body.toString());
        } finally {
            client.close();
        }
    }

    @Test
    void devicesAndModulesThatComeAndGoAreTold() throws Exception {
        TestModule module = TestModule.on(hub);
        TestDevice device = module.device();
        checkLife(0, device, null, "createDeviceIdentity");
        checkLife(1, device, module.id(), "createDeviceIdentity");
        new RegistryClient(hub.owner()).removeDevice(device.id());
        checkLife(2, device, module.id(), "deleteDeviceIdentity");
        checkLife(3, device, null, "deleteDeviceIdentity");
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void connectionsAreToldWithNumbersThatRise(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        String before = "";
        for (int n = 0; n < 4; n += 2) {
            DeviceClient client = device.open(door);
            client.close();
            before = checkConnection(n, device, "deviceConnected", before);
            before = checkConnection(n + 1, device, "deviceDisconnected", before);
        }
    }

    @Test
    void aDeviceThatIsCutOffIsGoneInOneCall() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.AMQPS);
        try {
            hub.cut(device.id());
            List<JsonObject> found = hub.find("eventHub", "connections", "deviceId", device.id(),
                    "source", "deviceConnectionStateEvents", "property.opType", "deviceDisconnected", "timeout", "10s");
            assertEquals("deviceConnectionStateNotification",
                    found.get(0).getAsJsonObject("properties").get("iothub-message-schema").getAsString());
        } finally {
            client.close();
        }
    }

    /** The fallback route is for telemetry: what nobody asked for comes to nobody. */
    @Test
    void noneOfThemComesToTheBuiltInEventHub() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try {
            Messages.send(client, "telemetry");
            assertEquals(List.of("Telemetry"), hub.find("deviceId", device.id(), "timeout", "10s").stream()
                    .map(event -> event.get("source").getAsString()).toList());
        } finally {
            client.close();
        }
    }

    private static void checkLife(int index, TestDevice device, String moduleId, String opType) throws Exception {
        JsonObject body = check(lives.of(device, index + 1).get(index).getData(), device, moduleId, "deviceLifecycleEvents",
                "deviceLifecycleNotification", opType);
        assertEquals(device.id(), body.get("deviceId").getAsString());
        assertEquals(moduleId, body.has("moduleId") ? body.get("moduleId").getAsString() : null);
        assertTrue(body.has("properties"), body.toString());
    }

    /** Returns the sequence number, which comes after the one before. */
    private static String checkConnection(int index, TestDevice device, String opType, String before) throws Exception {
        JsonObject body = check(connections.of(device, index + 1).get(index).getData(), device, null,
                "deviceConnectionStateEvents", "deviceConnectionStateNotification", opType);
        String number = body.get("sequenceNumber").getAsString();
        assertTrue(number.matches("[0-9A-F]{64}"), number);
        assertTrue(number.compareTo(before) > 0, before + ", then " + number);
        return number;
    }

    /** What all of these events have in common. Returns the body. */
    private static JsonObject check(EventData event, TestDevice device, String moduleId, String source, String schema, String opType)
            throws Exception {
        assertEquals(source, String.valueOf(event.getSystemProperties().get("iothub-message-source")));
        assertEquals(device.id(), event.getProperties().get("deviceId"));
        assertEquals(moduleId, event.getProperties().get("moduleId"));
        assertEquals(hub.eventHubName(), event.getProperties().get("hubName"));
        assertEquals(opType, event.getProperties().get("opType"));
        assertEquals(schema, event.getProperties().get("iothub-message-schema"));
        Instant moment = Instant.parse(String.valueOf(event.getProperties().get("operationTimestamp")));
        assertFalse(moment.isAfter(hub.now()));
        assertEquals("application/json", event.getContentType());
        assertNotNull(event.getCorrelationId());
        assertNull(event.getPartitionKey());
        return JsonParser.parseString(event.getBodyAsString()).getAsJsonObject();
    }
}
