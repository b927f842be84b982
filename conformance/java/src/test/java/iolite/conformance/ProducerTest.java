package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.amqp.exception.AmqpErrorCondition;
import com.azure.core.amqp.exception.AmqpException;
import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.EventDataBatch;
import com.azure.messaging.eventhubs.EventHubProducerClient;
import com.azure.messaging.eventhubs.models.CreateBatchOptions;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.azure.messaging.eventhubs.models.SendOptions;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Producers at an event hub beside the built-in one, as an application that feeds it has them. */
class ProducerTest {
    private static final int PARTITIONS = 3;
    private static final int BATCH = 1024 * 1024;

    private final Hub hub = Hubs.main();
    private String name;
    private String eventHub;
    private Events events;

    @BeforeEach
    void open() throws Exception {
        name = "produced-" + UUID.randomUUID();
        eventHub = hub.addEventHub(name, PARTITIONS);
        events = Events.allOf(eventHub);
    }

    @AfterEach
    void close() throws Exception {
        events.close();
        hub.removeEventHub(name);
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void whatIsSentToAPartitionIsThereInOrder(EventHubDoor door) throws Exception {
        String connectionString = door.connectionString(hub).replaceFirst("EntityPath=[^;]*", "EntityPath=" + name);
        try (EventHubProducerClient producer = door.builder(connectionString).buildProducerClient()) {
            assertEquals(name, producer.getEventHubProperties().getName());
            producer.send(numbered(0, 5), new SendOptions().setPartitionId("1"));
            producer.send(numbered(5, 6), new SendOptions().setPartitionId("1"));
            List<PartitionEvent> stored = events.where(event -> true, 6);
            assertEquals(List.of("0", "1", "2", "3", "4", "5"), Events.bodies(stored));
            assertEquals(Set.of("1"), partitions(stored));
        }
    }

    @Test
    void whatHasOnePartitionKeyStaysTogether() throws Exception {
        try (EventHubProducerClient producer = producer(eventHub)) {
            for (int n = 0; n < 4; n++) {
                producer.send(numbered(n, n + 1), new SendOptions().setPartitionKey("engine-7"));
            }
            List<PartitionEvent> stored = events.where(event -> true, 4);
            assertEquals(List.of("0", "1", "2", "3"), Events.bodies(stored));
            assertEquals(1, partitions(stored).size());
            assertTrue(stored.stream().allMatch(event -> event.getData().getPartitionKey().equals("engine-7")));
        }
    }

    @Test
    void whatNamesNeitherReachesEveryPartitionInTurn() throws Exception {
        try (EventHubProducerClient producer = producer(eventHub)) {
            for (int n = 0; n < PARTITIONS; n++) {
                producer.send(numbered(n, n + 1));
            }
            assertEquals(Set.of("0", "1", "2"), partitions(events.where(event -> true, PARTITIONS)));
        }
    }

    @Test
    void propertiesComeAlongAndBytesStayAsTheyAre() throws Exception {
        byte[] bytes = {0, (byte) 255, 1};
        EventData data = new EventData(bytes).setMessageId("m-1").setCorrelationId("c-1").setContentType("application/octet-stream");
        data.getProperties().put("room", "kitchen");
        try (EventHubProducerClient producer = producer(eventHub)) {
            producer.send(List.of(data));
        }
        EventData stored = events.where(event -> true, 1).get(0).getData();
        assertArrayEquals(bytes, stored.getBody());
        assertEquals("m-1", stored.getMessageId());
        assertEquals("c-1", stored.getCorrelationId());
        assertEquals("application/octet-stream", stored.getContentType());
        assertEquals("kitchen", stored.getProperties().get("room"));
    }

    @Test
    void aBatchHoldsAMegabyteAndMoreIsRefused() throws Exception {
        try (EventHubProducerClient producer = producer(eventHub)) {
            EventDataBatch batch = producer.createBatch(new CreateBatchOptions().setPartitionId("2"));
            assertEquals(BATCH, batch.getMaxSizeInBytes());
            while (batch.tryAdd(new EventData(new byte[200_000]))) {
                assertTrue(batch.getCount() <= 5);
            }
            producer.send(batch);
            assertEquals(5, events.where(event -> event.getData().getBody().length == 200_000, 5).size());
            AmqpException refusal = assertThrows(AmqpException.class, () -> producer.send(List.of(new EventData(new byte[BATCH]))));
            assertEquals(AmqpErrorCondition.LINK_PAYLOAD_SIZE_EXCEEDED, refusal.getErrorCondition());
        }
    }

    @Test
    void anUnknownPartitionIsRefused() {
        try (EventHubProducerClient producer = producer(eventHub)) {
            assertThrows(AmqpException.class, () -> producer.send(numbered(0, 1), new SendOptions().setPartitionId("99")));
        }
    }

    @Test
    void theBuiltInEventHubTakesNoEvents() {
        try (EventHubProducerClient producer = producer(hub.eventHub())) {
            AmqpException refusal = assertThrows(AmqpException.class, () -> producer.send(numbered(0, 1)));
            assertEquals(AmqpErrorCondition.UNAUTHORIZED_ACCESS, refusal.getErrorCondition());
            assertTrue(refusal.getMessage().contains("'Send' claim(s) are required"), refusal.getMessage());
        }
    }

    private static EventHubProducerClient producer(String connectionString) {
        return EventHubDoor.once(EventHubDoor.AMQPS.builder(connectionString)).buildProducerClient();
    }

    private static List<EventData> numbered(int from, int to) {
        return IntStream.range(from, to).mapToObj(Integer::toString).map(EventData::new).toList();
    }

    private static Set<String> partitions(List<PartitionEvent> events) {
        return events.stream().map(event -> event.getPartitionContext().getPartitionId()).collect(Collectors.toSet());
    }
}
