package iolite.conformance;

import com.azure.messaging.eventhubs.CheckpointStore;
import com.azure.messaging.eventhubs.models.Checkpoint;
import com.azure.messaging.eventhubs.models.PartitionOwnership;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What processors of one event hub and consumer group know of each other; each sees it through a view of its own. */
final class CheckpointsInMemory {
    private final Map<String, PartitionOwnership> ownerships = new ConcurrentHashMap<>();
    private final Map<String, Checkpoint> checkpoints = new ConcurrentHashMap<>();

    View view() {
        return new View();
    }

    /** Makes every owner look dead. Processors compare with the time of this machine, not with that of the hub. */
    synchronized void expire() {
        ownerships.values().forEach(ownership -> ownership.setLastModifiedTime(0L));
    }

    private synchronized boolean claim(PartitionOwnership wanted) {
        PartitionOwnership owned = ownerships.get(wanted.getPartitionId());
        if (owned != null && !owned.getETag().equals(wanted.getETag())) {
            return false;
        }
        wanted.setETag(UUID.randomUUID().toString()).setLastModifiedTime(System.currentTimeMillis());
        ownerships.put(wanted.getPartitionId(), wanted);
        return true;
    }

    /** The store as one processor sees it, until it is cut off. */
    final class View implements CheckpointStore {
        private volatile boolean cutOff;

        void cutOff() {
            cutOff = true;
        }

        @Override
        public Flux<PartitionOwnership> listOwnership(String namespace, String eventHub, String consumerGroup) {
            return Flux.defer(() -> cutOff ? Flux.error(gone()) : Flux.fromIterable(List.copyOf(ownerships.values())));
        }

        @Override
        public Flux<PartitionOwnership> claimOwnership(List<PartitionOwnership> wanted) {
            return Flux.defer(() -> cutOff ? Flux.error(gone())
                    : Flux.fromIterable(wanted.stream().filter(CheckpointsInMemory.this::claim).toList()));
        }

        @Override
        public Flux<Checkpoint> listCheckpoints(String namespace, String eventHub, String consumerGroup) {
            return Flux.defer(() -> cutOff ? Flux.error(gone()) : Flux.fromIterable(List.copyOf(checkpoints.values())));
        }

        @Override
        public Mono<Void> updateCheckpoint(Checkpoint checkpoint) {
            return Mono.defer(() -> {
                if (cutOff) {
                    return Mono.error(gone());
                }
                checkpoints.put(checkpoint.getPartitionId(), checkpoint);
                return Mono.empty();
            });
        }

        private static IllegalStateException gone() {
            return new IllegalStateException("the store cannot be reached");
        }
    }
}
