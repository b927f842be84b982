package iolite.conformance;

import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.models.EventPosition;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import java.util.List;
import java.util.stream.IntStream;

/** What a device of its own has sent: the numbers from 0 on. All of it is in one partition. */
record Sent(TestDevice device, String partition, List<EventData> events) {
    static Sent to(Hub hub, int count) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try {
            Messages.sendEach(client, IntStream.range(0, count).mapToObj(Integer::toString).toList());
        } finally {
            client.close();
        }
        List<PartitionEvent> stored = Events.all(hub).of(device, count);
        return new Sent(device, stored.get(0).getPartitionContext().getPartitionId(),
                stored.stream().map(PartitionEvent::getData).toList());
    }

    EventData first() {
        return events.get(0);
    }

    EventData last() {
        return events.get(events.size() - 1);
    }

    /** The position at the first event. */
    EventPosition start() {
        return EventPosition.fromSequenceNumber(first().getSequenceNumber(), true);
    }

    /** The bodies from one event on. */
    List<String> bodies(int from) {
        return IntStream.range(from, events.size()).mapToObj(Integer::toString).toList();
    }
}
