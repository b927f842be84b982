package iolite.conformance;

import com.azure.messaging.eventhubs.EventProcessorClient;
import com.azure.messaging.eventhubs.EventProcessorClientBuilder;
import com.azure.messaging.eventhubs.LoadBalancingStrategy;
import com.azure.messaging.eventhubs.models.EventContext;
import com.azure.messaging.eventhubs.models.EventPosition;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;

/** An EventProcessorClient that notes the body of every event, by partition, and makes a checkpoint after each. */
final class Processor implements AutoCloseable {
    private static final Duration BALANCING = Duration.ofMillis(200);
    private static final Duration OWNERSHIP = Duration.ofMinutes(2);

    final Set<String> owned = ConcurrentHashMap.newKeySet();
    private final Map<String, List<String>> seen = new ConcurrentHashMap<>();
    private final Map<String, List<String>> seenFrom = new ConcurrentHashMap<>();
    private final Map<String, Long> ends = new ConcurrentHashMap<>();
    private final EventProcessorClient client;
    private final CheckpointsInMemory.View store;

    /** Where there is no checkpoint it begins with the first event. */
    Processor(String connectionString, String group, CheckpointsInMemory checkpoints) {
        this(new EventProcessorClientBuilder().connectionString(connectionString), group, checkpoints);
    }

    Processor(EventProcessorClientBuilder builder, String group, CheckpointsInMemory checkpoints) {
        store = checkpoints.view();
        client = builder.consumerGroup(group)
                .checkpointStore(store)
                .loadBalancingStrategy(LoadBalancingStrategy.GREEDY)
                .loadBalancingUpdateInterval(BALANCING)
                .partitionOwnershipExpirationInterval(OWNERSHIP)
                .initialPartitionEventPosition(partition -> EventPosition.earliest())
                .processPartitionInitialization(context -> owned.add(context.getPartitionContext().getPartitionId()))
                .processPartitionClose(context -> owned.remove(context.getPartitionContext().getPartitionId()))
                .processError(context -> { })
                .processEvent(this::handle)
                .buildEventProcessorClient();
        client.start();
    }

    private void handle(EventContext context) {
        String partition = context.getPartitionContext().getPartitionId();
        seen.computeIfAbsent(partition, key -> new CopyOnWriteArrayList<>()).add(context.getEventData().getBodyAsString());
        String device = String.valueOf(context.getEventData().getSystemProperties().get("iothub-connection-device-id"));
        seenFrom.computeIfAbsent(device, key -> new CopyOnWriteArrayList<>()).add(context.getEventData().getBodyAsString());
        if (context.getLastEnqueuedEventProperties() != null) {
            ends.put(partition, context.getLastEnqueuedEventProperties().getSequenceNumber());
        }
        context.updateCheckpoint();
    }

    List<String> from(TestDevice device) {
        return List.copyOf(seenFrom.getOrDefault(device.id(), List.of()));
    }

    /** The sequence number with which the partition ends, as the last event told it. */
    long end(String partition) {
        return ends.get(partition);
    }

    List<String> of(String partition) {
        return List.copyOf(seen.getOrDefault(partition, List.of()));
    }

    /** From now on it can tell nobody how far it got, as if its process had ended. */
    void cutOff() {
        store.cutOff();
    }

    @Override
    public void close() {
        client.stop();
    }
}
