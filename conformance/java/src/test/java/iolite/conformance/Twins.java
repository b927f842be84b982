package iolite.conformance;

import com.microsoft.azure.sdk.iot.device.InternalClient;
import com.microsoft.azure.sdk.iot.device.twin.Twin;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Twins as the device and module clients see them. */
final class Twins {
    private static final int MILLIS = 30_000;

    /** Subscribes, which the SDK wants before anything else is done with a twin, and keeps every change that arrives. */
    static Changes follow(InternalClient client) throws Exception {
        BlockingQueue<TwinCollection> arrived = new LinkedBlockingQueue<>();
        client.subscribeToDesiredProperties((twin, context) -> arrived.add(twin.getDesiredProperties()), null, MILLIS);
        return new Changes(arrived);
    }

    static Twin get(InternalClient client) throws Exception {
        return client.getTwin(MILLIS);
    }

    /** Reports properties and returns their new version. */
    static int report(InternalClient client, TwinCollection properties) throws Exception {
        return client.updateReportedProperties(properties, MILLIS).getVersion();
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

    private Twins() {}
}
