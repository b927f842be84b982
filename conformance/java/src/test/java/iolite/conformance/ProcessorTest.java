package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.EventHubProducerClient;
import com.azure.messaging.eventhubs.EventProcessorClientBuilder;
import com.azure.messaging.eventhubs.models.SendOptions;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * EventProcessorClients that share the partitions of an event hub of their own through a checkpoint store. All at once: the
 * SDK takes ten seconds to close what it has lost, whatever one sets.
 */
@Execution(ExecutionMode.CONCURRENT)
class ProcessorTest {
    private static final String GROUP = EventHubClientBuilder.DEFAULT_CONSUMER_GROUP_NAME;
    private static final Set<String> PARTITIONS = Set.of("0", "1", "2", "3");
    private static final int PLAIN_AMQP = 5672;
    private static final int SENT = 20;

    private final Hub hub = Hubs.main();
    private final CheckpointsInMemory checkpoints = new CheckpointsInMemory();
    private String name;
    private String eventHub;
    private EventHubProducerClient producer;

    @BeforeEach
    void open() throws Exception {
        name = "processed-" + UUID.randomUUID();
        eventHub = hub.addEventHub(name, PARTITIONS.size());
        producer = new EventHubClientBuilder().connectionString(eventHub).buildProducerClient();
    }

    @AfterEach
    void close() throws Exception {
        producer.close();
        hub.removeEventHub(name);
    }

    @Test
    void processorsBalanceThePartitions() throws Exception {
        try (Processor one = start(eventHub)) {
            owns(one, 4);
            try (Processor other = start(eventHub)) {
                owns(one, 2);
                owns(other, 2);
                Set<String> all = new HashSet<>(one.owned);
                all.addAll(other.owned);
                assertEquals(PARTITIONS, all);
                one.close();
                inherits(other);
            }
        }
    }

    @Test
    void whatAProcessorLeavesWhenItDiesGoesToAnotherAndNothingIsLost() throws Exception {
        try (Proxy proxy = new Proxy(hub.address, PLAIN_AMQP); Processor mortal = start(through(proxy))) {
            owns(mortal, 4);
            try (Processor heir = start(eventHub)) {
                owns(mortal, 2);
                owns(heir, 2);
                send(0, SENT);
                Await.until("share of the one that dies", () -> PARTITIONS.stream().filter(p -> !mortal.of(p).isEmpty()).count(),
                        count -> count == 2);
                mortal.cutOff();
                proxy.close();
                send(SENT, 2 * SENT);
                inherits(heir);
                for (String partition : PARTITIONS) {
                    Await.until("last event", () -> heir.of(partition), bodies -> bodies.contains("" + (2 * SENT - 1)));
                    complete(mortal.of(partition), heir.of(partition), 2 * SENT);
                }
            }
        }
    }

    /** The SDK's processor takes a partition that it has lost again when its ownership has expired. */
    @Test
    void aProcessorWhoseConnectionIsCutComesBackAfterItsCheckpoints() throws Exception {
        try (Proxy proxy = new Proxy(hub.address, PLAIN_AMQP); Processor processor = start(through(proxy))) {
            owns(processor, 4);
            send(0, 2);
            sees(processor, numbers(0, 2));
            proxy.cut();
            owns(processor, 0);
            send(2, 4);
            inherits(processor);
            sees(processor, numbers(0, 4));
            assertTrue(proxy.connections.get() > 1);
        }
    }

    @Test
    void eventsThatComeWhileNobodyReadsAreWaitingAndNoneComesTwice() throws Exception {
        for (int run = 0; run < 2; run++) {
            int from = run * SENT;
            send(from, from + SENT);
            try (Processor processor = start(eventHub)) {
                sees(processor, numbers(from, from + SENT));
            }
            checkpoints.expire();
        }
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void aProcessorReadsWhatDevicesSendThroughEachDoor(EventHubDoor door) throws Exception {
        Sent sent = Sent.to(hub, 3);
        String group = hub.addConsumerGroup();
        EventProcessorClientBuilder builder = new EventProcessorClientBuilder().connectionString(door.connectionString(hub))
                .transportType(door.transport())
                .trackLastEnqueuedEventProperties(true);
        try (Processor processor = new Processor(builder, group, checkpoints)) {
            List<String> bodies = Await.until("events", () -> processor.from(sent.device()), got -> got.size() >= 3);
            assertEquals(sent.bodies(0), bodies);
            assertTrue(processor.end(sent.partition()) >= sent.last().getSequenceNumber());
        } finally {
            hub.removeConsumerGroup(group);
        }
    }

    /** Every number is there and in order; at most one is there twice, seen before it could be noted. */
    private static void complete(List<String> before, List<String> after, int count) {
        assertEquals(numbers(0, before.size()), before);
        int seenTwice = before.size() + after.size() - count;
        assertTrue(seenTwice == 0 || seenTwice == 1, before + " and then " + after);
        assertEquals(numbers(before.size() - seenTwice, count), after);
    }

    private Processor start(String connectionString) {
        return new Processor(connectionString, GROUP, checkpoints);
    }

    private static void owns(Processor processor, int partitions) throws Exception {
        Await.until(partitions + " partitions", () -> processor.owned.size(), count -> count == partitions);
    }

    /** All partitions, whose ownership expires meanwhile: who ends may have renewed its own a last time. */
    private void inherits(Processor processor) throws Exception {
        Await.until("partitions of who is gone", () -> {
            checkpoints.expire();
            return processor.owned.size();
        }, count -> count == PARTITIONS.size());
    }

    /** Of every partition, once and in order. */
    private static void sees(Processor processor, List<String> wanted) throws Exception {
        for (String partition : PARTITIONS) {
            assertEquals(wanted, Await.until("events", () -> processor.of(partition), got -> got.size() >= wanted.size()));
        }
    }

    private String through(Proxy proxy) {
        return hub.plainEventHub().replaceFirst(Pattern.quote(hub.address), hub.address + ":" + proxy.port())
                .replaceFirst("EntityPath=.*", "EntityPath=" + name);
    }

    private void send(int from, int to) {
        for (String partition : PARTITIONS) {
            producer.send(numbers(from, to).stream().map(EventData::new).toList(), new SendOptions().setPartitionId(partition));
        }
    }

    private static List<String> numbers(int from, int to) {
        return IntStream.range(from, to).mapToObj(Integer::toString).toList();
    }
}
