package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.amqp.models.AmqpMessageProperties;
import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubStatusCode;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.ModuleClient;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.transport.IotHubConnectionStatus;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import java.time.Instant;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Device to cloud: what each door takes in is what azure-messaging-eventhubs reads, names and types included. */
class TelemetryTest {
    private static final int MANY = 300;
    private static final int MANY_REQUESTS = 100;
    private static final int LARGE = 255 * 1024;

    private final Hub hub = Hubs.main();
    private final Events events = Events.all(hub);

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void systemPropertiesArriveUnderTheirAmqpNames(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Message message = new Message("{\"temperature\":21.5}");
        message.setMessageId("mid-" + device.id());
        message.setCorrelationId("cid:1");
        message.setContentType("application/json");
        message.setContentEncoding("utf-8");
        send(device, door, message);

        EventData event = events.only(device);
        AmqpMessageProperties stored = event.getRawAmqpMessage().getProperties();
        assertEquals("{\"temperature\":21.5}", event.getBodyAsString());
        assertEquals("mid-" + device.id(), stored.getMessageId().toString());
        assertEquals("cid:1", stored.getCorrelationId().toString());
        assertEquals("application/json", stored.getContentType());
        assertEquals("utf-8", stored.getContentEncoding());
    }

    /** Over AMQP the SDK does not send a user id. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "HTTPS"})
    void theUserIdArrives(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Message message = new Message("x");
        message.setUserId("operator");
        send(device, door, message);
        assertArrayEquals("operator".getBytes(),
                events.only(device).getRawAmqpMessage().getProperties().getUserId());
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void theCreationTimeArrives(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Message message = new Message("x");
        message.setCreationTimeUTC(Date.from(Instant.parse("2024-02-29T12:34:56.789Z")));
        send(device, door, message);

        EventData event = events.only(device);
        Map<String, Object> all = new HashMap<>(event.getSystemProperties());
        all.putAll(event.getProperties());
        String stored = String.valueOf(all.get("iothub-creation-time-utc"));
        assertTrue(stored.startsWith("2024-02-29T12:34:56."), stored); // the SDK writes milliseconds as ten-millionths
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void applicationPropertiesArriveAsStrings(IotHubClientProtocol door) throws Exception {
        Map<String, String> properties = Map.of("plain", "value", "MixedCase", "Stays As It Is", "number", "42");
        assertEquals(properties, propertiesAfter(door, properties));
    }

    /** Header names and values have no room for these, so HTTPS cannot carry them. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void applicationPropertiesKeepEveryCharacter(IotHubClientProtocol door) throws Exception {
        Map<String, String> properties = Map.of(
                "with space", "a b", "reserved", "a=b&c/d?e#f+g%h$i", "\u00fcn\u00efcode", "h\u00e9llo \u20ac");
        assertEquals(properties, propertiesAfter(door, properties));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void theHubStampsWhoSentItAndWhen(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Instant before = Instant.now();
        send(device, door, new Message("stamped"));

        EventData event = events.only(device);
        Map<String, Object> stamps = event.getSystemProperties();
        assertEquals(device.id(), assertInstanceOf(String.class, stamps.get("iothub-connection-device-id")));
        assertEquals(device.generationId(), assertInstanceOf(String.class, stamps.get("iothub-connection-auth-generation-id")));
        assertEquals("Telemetry", assertInstanceOf(String.class, stamps.get("iothub-message-source")));
        assertInstanceOf(Date.class, stamps.get("iothub-enqueuedtime"));
        JsonObject method = JsonParser.parseString((String) stamps.get("iothub-connection-auth-method")).getAsJsonObject();
        assertEquals("device", method.get("scope").getAsString());
        assertEquals("sas", method.get("type").getAsString());
        assertEquals("iothub", method.get("issuer").getAsString());

        assertEquals(device.id(), event.getPartitionKey());
        assertTrue(event.getSequenceNumber() >= 0);
        assertTrue(Long.parseLong(event.getOffsetString()) >= 0);
        assertFalse(event.getEnqueuedTime().isBefore(before.minusSeconds(1)));
        assertFalse(event.getEnqueuedTime().isAfter(Instant.now().plusSeconds(1)));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aSecurityMessageIsMarked(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Message message = new Message("{}");
        message.setAsSecurityMessage();
        send(device, door, message);
        assertEquals("urn:azureiot:Security:SecurityAgent:1",
                events.only(device).getSystemProperties().get("iothub-interface-id"));
    }

    /** Over HTTPS the SDK refuses a model id. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theModelIdOfTheConnectionIsStampedOnTelemetry(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        String model = "dtmi:com:example:Thermostat;1";
        DeviceClient client = new DeviceClient(device.connectionString(), door, TestDevice.options(door).modelId(model).build());
        try {
            client.open(false);
            Messages.send(client, "{}");
        } finally {
            client.close();
        }
        assertEquals(model, events.only(device).getSystemProperties().get("dt-dataschema"));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aBinaryBodyArrivesUnchanged(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        byte[] binary = new byte[256];
        IntStream.range(0, 256).forEach(n -> binary[n] = (byte) n);
        send(device, door, new Message(binary));
        assertArrayEquals(binary, events.only(device).getBody());
    }

    /** Java's AMQP announces frames of 4 KiB, so this is also dozens of frames in one delivery. */
    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aMessageOf255KibPasses(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        byte[] large = "0123456789abcdef".repeat(LARGE / 16).getBytes();
        send(device, door, new Message(large));
        assertArrayEquals(large, events.only(device).getBody());
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS", "HTTPS"})
    void aMessageOver256KibIsTooLarge(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        client.setRetryPolicy(new NoRetry());
        try {
            client.open(false);
            IotHubClientException refusal = assertThrows(IotHubClientException.class,
                    () -> client.sendEvent(new Message(new byte[300 * 1024]), Messages.SEND_MILLIS));
            assertEquals(IotHubStatusCode.REQUEST_ENTITY_TOO_LARGE, refusal.getStatusCode());
        } finally {
            client.close();
        }
    }

    /** MQTT 3.1.1 cannot refuse one message: the hub closes the connection. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS"})
    void aMessageOver256KibEndsAnMqttConnection(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        client.setRetryPolicy(new NoRetry());
        CountDownLatch lost = new CountDownLatch(1);
        client.setConnectionStatusChangeCallback(change -> {
            if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED) {
                lost.countDown();
            }
        }, null);
        try {
            client.open(false);
            client.sendEventAsync(new Message(new byte[300 * 1024]), (message, failure, context) -> { }, null);
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the connection stayed open");
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void hundredsInFlightAreStoredInTheOrderTheyAreAcknowledged(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        int count = door == IotHubClientProtocol.HTTPS ? MANY_REQUESTS : MANY;
        List<String> bodies = IntStream.range(0, count).mapToObj(Integer::toString).toList();
        DeviceClient client = device.open(door);
        List<String> acknowledged;
        try {
            acknowledged = Messages.sendAll(client, bodies);
        } finally {
            client.close();
        }
        List<PartitionEvent> stored = events.of(device, count);
        assertEquals(acknowledged, Events.bodies(stored));
        assertEquals(Set.copyOf(bodies), Set.copyOf(acknowledged));
        assertEquals(1, stored.stream().map(event -> event.getPartitionContext().getPartitionId()).distinct().count());
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void messagesSentOneAfterTheOtherKeepTheirOrder(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        List<String> bodies = IntStream.range(0, 20).mapToObj(Integer::toString).toList();
        DeviceClient client = device.open(door);
        try {
            Messages.sendEach(client, bodies);
        } finally {
            client.close();
        }
        assertEquals(bodies, Events.bodies(events.of(device, bodies.size())));
    }

    @ParameterizedTest
    @EnumSource(names = "HTTPS")
    void aBatchBecomesItsMessages(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        List<Message> batch = IntStream.range(0, 20).mapToObj(n -> {
            Message message = new Message("batched " + n);
            message.setMessageId("id-" + n);
            message.setProperty("index", Integer.toString(n));
            return message;
        }).toList();
        DeviceClient client = device.open(door);
        try {
            client.sendEvents(batch, Messages.SEND_MILLIS);
        } finally {
            client.close();
        }
        List<PartitionEvent> stored = events.of(device, batch.size());
        for (int n = 0; n < batch.size(); n++) {
            EventData event = stored.get(n).getData();
            assertEquals("batched " + n, event.getBodyAsString());
            assertEquals("id-" + n, event.getMessageId());
            assertEquals(Integer.toString(n), event.getProperties().get("index"));
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aCutConnectionComesBackAndSendsAgain(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        CountDownLatch cut = new CountDownLatch(1);
        client.setConnectionStatusChangeCallback(change -> {
            if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED_RETRYING) {
                cut.countDown();
            }
        }, null);
        try {
            client.open(false);
            Messages.send(client, "before");
            hub.cut(device.id());
            assertTrue(cut.await(30, TimeUnit.SECONDS), "the connection stayed open");
            Messages.send(client, "after");
        } finally {
            client.close();
        }
        assertEquals(List.of("before", "after"), Events.bodies(events.of(device, 2)));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aModuleSendsUnderItsOwnIdentity(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Module module = new RegistryClient(hub.owner()).addModule(new Module(device.id(), "camera", AuthenticationType.SAS));
        String connectionString = "HostName=" + hub.address + ";DeviceId=" + device.id() + ";ModuleId=camera;SharedAccessKey="
                + module.getPrimaryKey();
        ModuleClient client = new ModuleClient(connectionString, door);
        try {
            client.open(false);
            client.sendEvent(new Message("from the module"), Messages.SEND_MILLIS);
        } finally {
            client.close();
        }
        EventData event = events.only(device);
        assertEquals("from the module", event.getBodyAsString());
        assertEquals("camera", event.getSystemProperties().get("iothub-connection-module-id"));
        assertNotNull(event.getSystemProperties().get("iothub-connection-auth-generation-id"));
    }

    private Map<String, Object> propertiesAfter(IotHubClientProtocol door, Map<String, String> properties) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Message message = new Message("x");
        properties.forEach(message::setProperty);
        send(device, door, message);
        Map<String, Object> stored = new HashMap<>(events.only(device).getProperties());
        stored.keySet().removeIf(name -> name.startsWith("iothub-"));
        return stored;
    }

    private static void send(TestDevice device, IotHubClientProtocol door, Message message) throws Exception {
        DeviceClient client = device.open(door);
        try {
            client.sendEvent(message, Messages.SEND_MILLIS);
        } finally {
            client.close();
        }
    }
}
