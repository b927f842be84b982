package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import org.junit.jupiter.api.Test;

/** An HTTPS device may ask for messages every 25 minutes. The hub enforces it by default. */
class PollRuleTest {
    /** The SDK takes a refused poll for an empty queue and asks again at its own pace. */
    @Test
    void aDeviceThatPollsTooOftenGetsNothingUntilItsTimeComes() throws Exception {
        Hub hub = Hubs.moved();
        TestDevice device = TestDevice.on(hub);
        try (Service service = new Service(hub, IotHubServiceClientProtocol.AMQPS)) {
            service.send(device, "first");
            service.send(device, "second");
        }
        DeviceClient client = device.listener(IotHubClientProtocol.HTTPS);
        Messages.Inbox inbox = Messages.listen(client);
        client.open(false);
        try {
            assertEquals("first", inbox.nextBody());
            Await.until("violations", () -> hub.refusedPolls(device.id()), count -> count >= 3);
            assertTrue(inbox.arrived().isEmpty(), "a poll that came too soon was answered");
            hub.advance("25m");
            assertEquals("second", inbox.nextBody());
        } finally {
            client.close();
        }
    }

    @Test
    void telemetryOverHttpsIsNoPoll() throws Exception {
        Hub hub = Hubs.main();
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.HTTPS);
        try {
            for (int n = 0; n < 5; n++) {
                Messages.send(client, Integer.toString(n));
            }
        } finally {
            client.close();
        }
        assertEquals(0, hub.refusedPolls(device.id()));
        assertEquals(5, Events.all(hub).of(device, 5).size());
    }
}
