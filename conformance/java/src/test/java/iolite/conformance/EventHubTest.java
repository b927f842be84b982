package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.amqp.exception.AmqpErrorCondition;
import com.azure.core.amqp.exception.AmqpException;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.EventHubConsumerClient;
import com.azure.messaging.eventhubs.EventHubProperties;
import com.azure.messaging.eventhubs.PartitionProperties;
import com.azure.messaging.eventhubs.models.EventPosition;
import com.azure.messaging.eventhubs.models.LastEnqueuedEventProperties;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.azure.messaging.eventhubs.models.ReceiveOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The Event Hubs-compatible endpoint through azure-messaging-eventhubs: TLS, WebSocket and plain TCP. */
class EventHubTest {
    private static final int SENT = 10;
    private static final Duration PORTION = Duration.ofMillis(200);

    private static Hub hub;
    private static Sent sent;

    @BeforeAll
    static void send() throws Exception {
        hub = Hubs.main();
        sent = Sent.to(hub, SENT);
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void theHubAndItsPartitionsDescribeThemselves(EventHubDoor door) {
        try (EventHubConsumerClient client = door.builder(hub).buildConsumerClient()) {
            EventHubProperties described = client.getEventHubProperties();
            assertEquals(client.getEventHubName(), described.getName());
            assertTrue(described.getCreatedAt().isBefore(Instant.now()));
            assertEquals(List.of("0", "1", "2", "3"), described.getPartitionIds().stream().toList());

            PartitionProperties properties = client.getPartitionProperties(sent.partition());
            assertEquals(sent.partition(), properties.getId());
            assertEquals(client.getEventHubName(), properties.getEventHubName());
            assertFalse(properties.isEmpty());
            assertTrue(properties.getBeginningSequenceNumber() <= sent.first().getSequenceNumber());
            assertTrue(properties.getLastEnqueuedSequenceNumber() >= sent.last().getSequenceNumber());
            assertTrue(Long.parseLong(properties.getLastEnqueuedOffset()) >= Long.parseLong(sent.last().getOffsetString()));
            assertFalse(properties.getLastEnqueuedTime().isBefore(sent.last().getEnqueuedTime()));
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void readingStartsAfterAnOffset(EventHubDoor door) throws Exception {
        assertEquals(sent.bodies(5), read(door, EventPosition.fromOffsetString(sent.events().get(4).getOffsetString()), 5));
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void readingStartsAfterASequenceNumber(EventHubDoor door) throws Exception {
        assertEquals(sent.bodies(5), read(door, EventPosition.fromSequenceNumber(sent.events().get(4).getSequenceNumber()), 5));
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void readingStartsWithASequenceNumber(EventHubDoor door) throws Exception {
        assertEquals(sent.bodies(4), read(door, EventPosition.fromSequenceNumber(sent.events().get(4).getSequenceNumber(), true), 6));
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void readingStartsAfterATime(EventHubDoor door) throws Exception {
        Instant start = sent.first().getEnqueuedTime().minusMillis(1);
        try (Events events = from(door, EventPosition.fromEnqueuedTime(start))) {
            assertEquals(sent.bodies(0), Events.bodies(events.of(sent.device(), SENT)).subList(0, SENT));
            assertTrue(events.soFar(event -> !event.getData().getEnqueuedTime().isAfter(start)).isEmpty());
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void earliestIsTheFirstEventThatIsKept(EventHubDoor door) throws Exception {
        long begin;
        try (EventHubConsumerClient client = door.builder(hub).buildConsumerClient()) {
            begin = client.getPartitionProperties(sent.partition()).getBeginningSequenceNumber();
        }
        try (Events events = from(door, EventPosition.earliest())) {
            assertEquals(begin, events.where(event -> true, 1).get(0).getData().getSequenceNumber());
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void latestSeesNothingFromBefore(EventHubDoor door) throws Exception {
        DeviceClient client = sent.device().open(IotHubClientProtocol.MQTT);
        try (Events events = from(door, EventPosition.latest())) {
            List<PartitionEvent> arrived = Await.until("event", () -> {
                Messages.send(client, "new");
                return events.soFar(event -> Events.deviceOf(event).equals(sent.device().id()));
            }, found -> !found.isEmpty());
            assertEquals("new", arrived.get(0).getData().getBodyAsString());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void everyConsumerGroupReadsEverything(EventHubDoor door) throws Exception {
        EventPosition start = sent.start();
        try (Events one = from(door, start);
                Events other = Events.from(door.builder(hub).consumerGroup("a-group-of-its-own"), sent.partition(), start)) {
            assertEquals(sent.bodies(0), Events.bodies(one.of(sent.device(), SENT)).subList(0, SENT));
            assertEquals(sent.bodies(0), Events.bodies(other.of(sent.device(), SENT)).subList(0, SENT));
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void aWrongKeyIsUnauthorized(EventHubDoor door) {
        String right = door.connectionString(hub);
        String wrong = right.replaceFirst("SharedAccessKey=[^;]*", "SharedAccessKey=d3Jvbmc=");
        EventHubClientBuilder builder = EventHubDoor.once(door.builder(wrong));
        try (EventHubConsumerClient client = builder.buildConsumerClient()) {
            AmqpException refusal = assertThrows(AmqpException.class, client::getEventHubProperties);
            assertEquals(AmqpErrorCondition.UNAUTHORIZED_ACCESS, refusal.getErrorCondition());
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void anUnknownPartitionIsRefused(EventHubDoor door) throws Exception {
        EventHubClientBuilder builder = EventHubDoor.once(door.builder(hub));
        try (Events events = Events.from(builder, "99", EventPosition.earliest())) {
            assertInstanceOf(AmqpException.class, events.error());
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void anUnknownConsumerGroupIsNotFoundAndThoseThereAreAreNamed(EventHubDoor door) throws Exception {
        EventHubClientBuilder builder = EventHubDoor.once(door.builder(hub)).consumerGroup("unknown");
        try (Events events = Events.from(builder, sent.partition(), EventPosition.earliest())) {
            AmqpException refusal = assertInstanceOf(AmqpException.class, events.error());
            assertEquals(AmqpErrorCondition.NOT_FOUND, refusal.getErrorCondition());
            assertTrue(refusal.getMessage().contains("a-group-of-its-own"), refusal.getMessage());
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void anUnknownEventHubIsNotFound(EventHubDoor door) throws Exception {
        String unknown = door.connectionString(hub).replaceFirst("EntityPath=[^;]*", "EntityPath=unknown");
        try (EventHubConsumerClient client = EventHubDoor.once(door.builder(unknown)).buildConsumerClient();
                Events events = Events.from(EventHubDoor.once(door.builder(unknown)), "0", EventPosition.earliest())) {
            AmqpException undescribed = assertThrows(AmqpException.class, client::getEventHubProperties);
            assertEquals(AmqpErrorCondition.NOT_FOUND, undescribed.getErrorCondition());
            AmqpException refusal = assertInstanceOf(AmqpException.class, events.error());
            assertEquals(AmqpErrorCondition.NOT_FOUND, refusal.getErrorCondition());
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void positionsBehindTheLastEventAreRefused(EventHubDoor door) throws Exception {
        for (EventPosition beyond : List.of(EventPosition.fromOffsetString("999999999999"),
                EventPosition.fromSequenceNumber(999_999_999), EventPosition.fromSequenceNumber(999_999_999, true))) {
            try (Events events = Events.from(EventHubDoor.once(door.builder(hub)), sent.partition(), beyond)) {
                AmqpException refusal = assertInstanceOf(AmqpException.class, events.error());
                assertEquals(AmqpErrorCondition.ARGUMENT_ERROR, refusal.getErrorCondition());
                assertTrue(refusal.getMessage().contains("is invalid. The last"), refusal.getMessage());
            }
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void whoAsksForItIsToldWithEveryEventWhereThePartitionEnds(EventHubDoor door) throws Exception {
        ReceiveOptions options = new ReceiveOptions().setTrackLastEnqueuedEventProperties(true);
        try (Events events = Events.from(door.builder(hub), sent.partition(), sent.start(), options);
                EventHubConsumerClient client = door.builder(hub).buildConsumerClient()) {
            LastEnqueuedEventProperties end = events.of(sent.device(), SENT).get(SENT - 1).getLastEnqueuedEventProperties();
            PartitionProperties partition = client.getPartitionProperties(sent.partition());
            assertTrue(end.getSequenceNumber() >= sent.last().getSequenceNumber());
            assertTrue(end.getSequenceNumber() <= partition.getLastEnqueuedSequenceNumber());
            assertTrue(Long.parseLong(end.getOffsetString()) >= Long.parseLong(sent.last().getOffsetString()));
            assertFalse(end.getEnqueuedTime().isBefore(sent.last().getEnqueuedTime()));
            assertFalse(end.getRetrievalTime().isBefore(end.getEnqueuedTime()));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 3, 500})
    void everyEventArrivesOnceAndInOrderWhateverIsFetchedAhead(int prefetch) throws Exception {
        for (EventHubDoor door : EventHubDoor.values()) {
            try (Events events = Events.from(door.builder(hub).prefetchCount(prefetch), sent.partition(), sent.start())) {
                assertEquals(sent.bodies(0), Events.bodies(events.of(sent.device(), SENT)));
            }
        }
    }

    /** The synchronous client asks for so many events or so much time, and drains what credit is left. */
    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void theSynchronousClientTakesEventsInPortions(EventHubDoor door) {
        try (EventHubConsumerClient client = door.builder(hub).buildConsumerClient()) {
            EventPosition next = sent.start();
            List<String> bodies = new ArrayList<>();
            while (bodies.size() < SENT) {
                for (PartitionEvent event : client.receiveFromPartition(sent.partition(), 3, next, PORTION)) {
                    next = EventPosition.fromOffsetString(event.getData().getOffsetString());
                    if (Events.deviceOf(event).equals(sent.device().id())) {
                        bodies.add(event.getData().getBodyAsString());
                    }
                }
            }
            assertEquals(sent.bodies(0), bodies);
        }
    }

    private static Events from(EventHubDoor door, EventPosition position) {
        return Events.from(door.builder(hub), sent.partition(), position);
    }

    private static List<String> read(EventHubDoor door, EventPosition position, int count) throws Exception {
        try (Events events = from(door, position)) {
            return Events.bodies(events.of(sent.device(), count)).subList(0, count);
        }
    }
}
