package iolite.conformance;

import com.azure.core.amqp.AmqpTransportType;
import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.EventHubConsumerAsyncClient;
import com.azure.messaging.eventhubs.models.EventPosition;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.azure.messaging.eventhubs.models.ReceiveOptions;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Predicate;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;

/** Collects, in the background, what the hub stored, as azure-messaging-eventhubs reads it. */
final class Events implements AutoCloseable {
    private static final Map<Hub, Events> ALL = new ConcurrentHashMap<>();

    private final EventHubConsumerAsyncClient client;
    private final List<PartitionEvent> arrived = new CopyOnWriteArrayList<>();
    private final Disposable receiving;
    private volatile Throwable error;

    /** Everything that the hub has stored since it started; lives as long as the suite. */
    static Events all(Hub hub) {
        return ALL.computeIfAbsent(hub, key -> allOf(hub.eventHub()));
    }

    /** One partition from a position on. */
    static Events from(EventHubClientBuilder builder, String partition, EventPosition position) {
        return from(builder, partition, position, new ReceiveOptions());
    }

    static Events from(EventHubClientBuilder builder, String partition, EventPosition position, ReceiveOptions options) {
        EventHubConsumerAsyncClient client = builder.buildAsyncConsumerClient();
        return new Events(client, client.receiveFromPartition(partition, position, options));
    }

    /** Every partition of an event hub from its first event on. */
    static Events allOf(String connectionString) {
        EventHubConsumerAsyncClient client = builder(connectionString, AmqpTransportType.AMQP).buildAsyncConsumerClient();
        return new Events(client, client.receive(true));
    }

    static EventHubClientBuilder builder(String connectionString, AmqpTransportType transport) {
        return new EventHubClientBuilder()
                .connectionString(connectionString)
                .transportType(transport)
                .consumerGroup(EventHubClientBuilder.DEFAULT_CONSUMER_GROUP_NAME);
    }

    private Events(EventHubConsumerAsyncClient client, Flux<PartitionEvent> source) {
        this.client = client;
        this.receiving = source.subscribe(arrived::add, failure -> error = failure);
    }

    /** Waits until the device has at least count events; returns all it has, in order of arrival. */
    List<PartitionEvent> of(TestDevice device, int count) throws Exception {
        return of(device.id(), count);
    }

    List<PartitionEvent> of(String deviceId, int count) throws Exception {
        return where(event -> deviceId.equals(deviceOf(event)), count);
    }

    EventData only(TestDevice device) throws Exception {
        return of(device, 1).get(0).getData();
    }

    List<PartitionEvent> where(Predicate<PartitionEvent> wanted, int count) throws Exception {
        return Await.until(count + " events", () -> soFar(wanted), found -> {
            if (error != null && found.size() < count) {
                throw new AssertionError("receiving ended", error);
            }
            return found.size() >= count;
        });
    }

    List<PartitionEvent> soFar(Predicate<PartitionEvent> wanted) {
        return arrived.stream().filter(wanted).toList();
    }

    /** Whether nothing has ended this receiving. */
    boolean reading() {
        return error == null && !receiving.isDisposed();
    }

    /** Waits for the error that ends this receiving. */
    Throwable error() throws Exception {
        return Await.until("error", () -> error, failure -> failure != null);
    }

    static String deviceOf(PartitionEvent event) {
        return String.valueOf(event.getData().getSystemProperties().get("iothub-connection-device-id"));
    }

    static List<String> bodies(List<PartitionEvent> events) {
        return events.stream().map(event -> event.getData().getBodyAsString()).toList();
    }

    @Override
    public void close() {
        receiving.dispose();
        client.close();
    }
}
