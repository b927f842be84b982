package iolite.conformance;

import com.microsoft.azure.sdk.iot.device.ClientConfiguration;
import com.microsoft.azure.sdk.iot.device.InternalClient;
import com.microsoft.azure.sdk.iot.device.IotHubMessageResult;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.MessageCallback;
import com.microsoft.azure.sdk.iot.device.transport.IotHubTransportMessage;
import com.microsoft.azure.sdk.iot.device.twin.DeviceOperations;
import com.microsoft.azure.sdk.iot.device.twin.Twin;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * Twins as the device and module clients see them.
 *
 * <p>The SDK has a race: it acknowledges an answer on one thread while another is about to tell it to whoever asked, and who asked
 * is forgotten by the acknowledgement. On a busy machine answers are lost that way. Here an acknowledgement waits until its
 * answer has been told.
 */
final class Twins {
    private static final int MILLIS = 30_000;

    /** How many answers each client has told that are not acknowledged yet. */
    private static final Map<InternalClient, Semaphore> TOLD = new ConcurrentHashMap<>();

    /** Subscribes, which the SDK wants before anything else is done with a twin, and keeps every change that arrives. */
    static Changes follow(InternalClient client) throws Exception {
        BlockingQueue<TwinCollection> arrived = new LinkedBlockingQueue<>();
        client.subscribeToDesiredProperties((twin, context) -> arrived.add(twin.getDesiredProperties()), null, MILLIS);
        tellBeforeAcknowledging(client);
        return new Changes(arrived);
    }

    static Twin get(InternalClient client) throws Exception {
        try {
            return client.getTwin(MILLIS);
        } finally {
            TOLD.get(client).release();
        }
    }

    /** Reports properties and returns their new version. */
    static int report(InternalClient client, TwinCollection properties) throws Exception {
        try {
            return client.updateReportedProperties(properties, MILLIS).getVersion();
        } finally {
            TOLD.get(client).release();
        }
    }

    static CompletableFuture<Integer> reportAsync(InternalClient client, TwinCollection properties) {
        CompletableFuture<Integer> version = new CompletableFuture<>();
        client.updateReportedPropertiesAsync(properties, (status, response, failure, context) -> {
            if (failure == null) {
                version.complete(response.getVersion());
            } else {
                version.completeExceptionally(failure);
            }
            TOLD.get(client).release();
        }, null);
        return version;
    }

    /** A collection of one property. */
    static TwinCollection of(String name, Object value) {
        TwinCollection collection = new TwinCollection();
        collection.put(name, value);
        return collection;
    }

    record Changes(BlockingQueue<TwinCollection> arrived) {
        TwinCollection next() throws Exception {
            TwinCollection change = arrived.poll(MILLIS, TimeUnit.MILLISECONDS);
            if (change == null) {
                throw new AssertionError("no change of the desired properties in time");
            }
            return change;
        }

        List<TwinCollection> next(int count) throws Exception {
            TwinCollection[] changes = new TwinCollection[count];
            for (int n = 0; n < count; n++) {
                changes[n] = next();
            }
            return List.of(changes);
        }
    }

    /** A client that is opened again has a callback of the SDK's again. */
    private static void tellBeforeAcknowledging(InternalClient client) {
        ClientConfiguration configuration = client.getConfig();
        MessageCallback acknowledge = configuration.getDeviceTwinMessageCallback();
        if (acknowledge instanceof Patient) {
            return;
        }
        Semaphore told = new Semaphore(0);
        TOLD.put(client, told);
        configuration.setDeviceTwinMessageCallback(new Patient(acknowledge, told), configuration.getDeviceTwinMessageContext());
    }

    private record Patient(MessageCallback acknowledge, Semaphore told) implements MessageCallback {
        @Override
        public IotHubMessageResult onCloudToDeviceMessageReceived(Message message, Object context) {
            if (isAnswer(message)) {
                await(told);
            }
            return acknowledge.onCloudToDeviceMessageReceived(message, context);
        }
    }

    private static boolean isAnswer(Message message) {
        DeviceOperations operation = ((IotHubTransportMessage) message).getDeviceOperationType();
        return operation == DeviceOperations.DEVICE_OPERATION_TWIN_GET_RESPONSE
                || operation == DeviceOperations.DEVICE_OPERATION_TWIN_UPDATE_REPORTED_PROPERTIES_RESPONSE;
    }

    private static void await(Semaphore told) {
        try {
            told.tryAcquire(MILLIS, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // the client is being closed
        }
    }

    private Twins() {}
}
