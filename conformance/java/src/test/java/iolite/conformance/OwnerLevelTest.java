package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.amqp.exception.AmqpErrorCondition;
import com.azure.core.amqp.exception.AmqpException;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.models.EventPosition;
import com.azure.messaging.eventhubs.models.ReceiveOptions;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Owner levels (epochs): who reads a partition of a consumer group alone, and what the others are told. */
class OwnerLevelTest {
    private static final int MOST_READERS = 5;

    private static Hub hub;
    private static Sent sent;
    private final List<Events> open = new ArrayList<>();
    private String group;

    @BeforeAll
    static void send() throws Exception {
        hub = Hubs.main();
        sent = Sent.to(hub, 1);
    }

    @BeforeEach
    void group() throws Exception {
        group = hub.addConsumerGroup();
    }

    @AfterEach
    void close() throws Exception {
        open.forEach(Events::close);
        hub.removeConsumerGroup(group);
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void aReaderWithAnOwnerLevelPushesOutOneWithout(EventHubDoor door) throws Exception {
        Events displaced = reading(door, group, null);
        Events owner = reading(door, group, 0L);
        assertStolen(displaced, "higher epoch of '0'");
        assertTrue(owner.reading());
    }

    @ParameterizedTest
    @ValueSource(longs = {3, 4})
    void theSameOrAHigherOwnerLevelTakesThePartition(long level) throws Exception {
        Events displaced = reading(EventHubDoor.AMQPS, group, 3L);
        Events owner = reading(EventHubDoor.AMQPS, group, level);
        assertStolen(displaced, "epoch of '" + level + "'", "epoch '3'");
        assertTrue(owner.reading());
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void aLowerOwnerLevelOrNoneIsRefused(EventHubDoor door) throws Exception {
        Events owner = reading(door, group, 2L);
        assertStolen(from(door, group, 1L), "higher epoch '2' already exists");
        assertStolen(from(door, group, null), "created with epoch of '2'");
        assertTrue(owner.reading());
    }

    @Test
    void aPartitionWithoutItsOwnerIsFreeAgain() throws Exception {
        reading(EventHubDoor.AMQPS, group, 5L).close();
        Await.until("owner has gone", () -> hub.readers(group), count -> count == 0);
        reading(EventHubDoor.AMQPS, group, 1L).close();
        Await.until("owner has gone", () -> hub.readers(group), count -> count == 0);
        reading(EventHubDoor.AMQPS, group, null);
    }

    @Test
    void consumerGroupsAndPartitionsHaveOwnersOfTheirOwn() throws Exception {
        Events owner = reading(EventHubDoor.AMQPS, group, 1L);
        Events ofAnotherGroup = reading(EventHubDoor.AMQPS, "a-group-of-its-own", 7L);
        String elsewhere = sent.partition().equals("0") ? "1" : "0";
        Events ofAnotherPartition = keep(Events.from(EventHubDoor.AMQPS.builder(hub).consumerGroup(group), elsewhere,
                EventPosition.earliest(), new ReceiveOptions().setOwnerLevel(9L)));
        Await.until("second reader", () -> hub.readers(group), count -> count == 2);
        assertTrue(owner.reading() && ofAnotherGroup.reading() && ofAnotherPartition.reading());
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void theSixthReaderWithoutAnOwnerLevelIsRefused(EventHubDoor door) throws Exception {
        List<Events> readers = new ArrayList<>();
        for (int n = 0; n < MOST_READERS; n++) {
            readers.add(reading(door, group, null));
        }
        AmqpException refusal = assertInstanceOf(AmqpException.class, from(door, group, null).error());
        assertEquals(AmqpErrorCondition.RESOURCE_LIMIT_EXCEEDED, refusal.getErrorCondition());
        assertTrue(readers.stream().allMatch(Events::reading));
    }

    @Test
    void aConsumerGroupThatGoesEndsItsReaders() throws Exception {
        Events reader = reading(EventHubDoor.AMQPS, group, null);
        hub.removeConsumerGroup(group);
        AmqpException end = assertInstanceOf(AmqpException.class, reader.error());
        assertEquals(AmqpErrorCondition.NOT_FOUND, end.getErrorCondition());
        group = hub.addConsumerGroup();
    }

    /** A reader that has read the device's first event. */
    private Events reading(EventHubDoor door, String group, Long level) throws Exception {
        Events events = from(door, group, level);
        events.of(sent.device(), 1);
        return events;
    }

    private Events from(EventHubDoor door, String group, Long level) {
        EventHubClientBuilder builder = EventHubDoor.once(door.builder(hub).consumerGroup(group));
        return keep(Events.from(builder, sent.partition(), sent.start(), new ReceiveOptions().setOwnerLevel(level)));
    }

    private Events keep(Events events) {
        open.add(events);
        return events;
    }

    private static void assertStolen(Events events, String... texts) throws Exception {
        AmqpException end = assertInstanceOf(AmqpException.class, events.error());
        assertEquals(AmqpErrorCondition.LINK_STOLEN, end.getErrorCondition());
        for (String text : texts) {
            assertTrue(end.getMessage().contains(text), end.getMessage());
        }
    }
}
