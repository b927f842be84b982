package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.core.amqp.AmqpTransportType;
import com.azure.core.amqp.exception.AmqpErrorCondition;
import com.azure.core.amqp.exception.AmqpException;
import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.EventHubConsumerClient;
import com.azure.messaging.eventhubs.EventHubProperties;
import com.azure.messaging.eventhubs.PartitionProperties;
import com.azure.messaging.eventhubs.models.EventPosition;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import java.time.Instant;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The Event Hubs-compatible endpoint through azure-messaging-eventhubs: TLS, WebSocket and plain TCP. */
class EventHubTest {
    private static final int SENT = 10;

    private static Hub hub;
    private static TestDevice device;
    private static List<EventData> sent;
    private static String partition;

    enum Door {
        AMQPS,
        AMQPS_WS,
        AMQP;

        EventHubClientBuilder builder() {
            return builder(this == AMQP ? hub.plainEventHub() : hub.eventHub());
        }

        EventHubClientBuilder builder(String connectionString) {
            return Events.builder(connectionString, this == AMQPS_WS ? AmqpTransportType.AMQP_WEB_SOCKETS : AmqpTransportType.AMQP);
        }
    }

    @BeforeAll
    static void send() throws Exception {
        hub = Hubs.main();
        device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try {
            Messages.sendEach(client, bodies(0));
        } finally {
            client.close();
        }
        List<PartitionEvent> stored = Events.all(hub).of(device, SENT);
        sent = stored.stream().map(PartitionEvent::getData).toList();
        partition = stored.get(0).getPartitionContext().getPartitionId();
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void theHubAndItsPartitionsDescribeThemselves(Door door) {
        try (EventHubConsumerClient client = door.builder().buildConsumerClient()) {
            EventHubProperties described = client.getEventHubProperties();
            assertEquals(client.getEventHubName(), described.getName());
            assertTrue(described.getCreatedAt().isBefore(Instant.now()));
            assertEquals(List.of("0", "1", "2", "3"), described.getPartitionIds().stream().toList());

            PartitionProperties properties = client.getPartitionProperties(partition);
            assertEquals(partition, properties.getId());
            assertEquals(client.getEventHubName(), properties.getEventHubName());
            assertFalse(properties.isEmpty());
            assertTrue(properties.getBeginningSequenceNumber() <= first().getSequenceNumber());
            assertTrue(properties.getLastEnqueuedSequenceNumber() >= last().getSequenceNumber());
            assertTrue(Long.parseLong(properties.getLastEnqueuedOffset()) >= Long.parseLong(last().getOffsetString()));
            assertFalse(properties.getLastEnqueuedTime().isBefore(last().getEnqueuedTime()));
        }
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void readingStartsAfterAnOffset(Door door) throws Exception {
        assertEquals(bodies(5), read(door, EventPosition.fromOffsetString(sent.get(4).getOffsetString()), 5));
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void readingStartsAfterASequenceNumber(Door door) throws Exception {
        assertEquals(bodies(5), read(door, EventPosition.fromSequenceNumber(sent.get(4).getSequenceNumber()), 5));
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void readingStartsWithASequenceNumber(Door door) throws Exception {
        assertEquals(bodies(4), read(door, EventPosition.fromSequenceNumber(sent.get(4).getSequenceNumber(), true), 6));
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void readingStartsAfterATime(Door door) throws Exception {
        Instant start = first().getEnqueuedTime().minusMillis(1);
        try (Events events = from(door, EventPosition.fromEnqueuedTime(start))) {
            assertEquals(bodies(0), Events.bodies(events.of(device, SENT)).subList(0, SENT));
            assertTrue(events.soFar(event -> !event.getData().getEnqueuedTime().isAfter(start)).isEmpty());
        }
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void earliestIsTheFirstEventThatIsKept(Door door) throws Exception {
        long begin;
        try (EventHubConsumerClient client = door.builder().buildConsumerClient()) {
            begin = client.getPartitionProperties(partition).getBeginningSequenceNumber();
        }
        try (Events events = from(door, EventPosition.earliest())) {
            assertEquals(begin, events.where(event -> true, 1).get(0).getData().getSequenceNumber());
        }
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void latestSeesNothingFromBefore(Door door) throws Exception {
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try (Events events = from(door, EventPosition.latest())) {
            List<PartitionEvent> arrived = Await.until("event", () -> {
                Messages.send(client, "new");
                return events.soFar(event -> Events.deviceOf(event).equals(device.id()));
            }, found -> !found.isEmpty());
            assertEquals("new", arrived.get(0).getData().getBodyAsString());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void everyConsumerGroupReadsEverything(Door door) throws Exception {
        EventPosition start = EventPosition.fromSequenceNumber(first().getSequenceNumber(), true);
        try (Events one = from(door, start);
                Events other = Events.from(door.builder().consumerGroup("a-group-of-its-own"), partition, start)) {
            assertEquals(bodies(0), Events.bodies(one.of(device, SENT)).subList(0, SENT));
            assertEquals(bodies(0), Events.bodies(other.of(device, SENT)).subList(0, SENT));
        }
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void aWrongKeyIsUnauthorized(Door door) {
        String right = door == Door.AMQP ? hub.plainEventHub() : hub.eventHub();
        String wrong = right.replaceFirst("SharedAccessKey=[^;]*", "SharedAccessKey=d3Jvbmc=");
        EventHubClientBuilder builder = door.builder(wrong).retryOptions(new AmqpRetryOptions().setMaxRetries(0));
        try (EventHubConsumerClient client = builder.buildConsumerClient()) {
            AmqpException refusal = assertThrows(AmqpException.class, client::getEventHubProperties);
            assertEquals(AmqpErrorCondition.UNAUTHORIZED_ACCESS, refusal.getErrorCondition());
        }
    }

    @ParameterizedTest
    @EnumSource(Door.class)
    void anUnknownPartitionIsRefused(Door door) throws Exception {
        EventHubClientBuilder builder = door.builder().retryOptions(new AmqpRetryOptions().setMaxRetries(0));
        try (Events events = Events.from(builder, "99", EventPosition.earliest())) {
            assertInstanceOf(AmqpException.class, events.error());
        }
    }

    private static Events from(Door door, EventPosition position) {
        return Events.from(door.builder(), partition, position);
    }

    private static List<String> read(Door door, EventPosition position, int count) throws Exception {
        try (Events events = from(door, position)) {
            return Events.bodies(events.of(device, count)).subList(0, count);
        }
    }

    private static List<String> bodies(int from) {
        return IntStream.range(from, SENT).mapToObj(Integer::toString).toList();
    }

    private static EventData first() {
        return sent.get(0);
    }

    private static EventData last() {
        return sent.get(SENT - 1);
    }
}
