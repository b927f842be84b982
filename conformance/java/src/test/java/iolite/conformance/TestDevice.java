package iolite.conformance;

import com.microsoft.azure.sdk.iot.device.ClientOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import java.time.Duration;
import java.util.UUID;

/** A device of its own for each test, and the clients that act as it. */
record TestDevice(Hub hub, String id, String key, String secondaryKey, String generationId) {
    private static final int POLL_MILLIS = 20;
    private static final int NEVER = Integer.MAX_VALUE;

    static TestDevice on(Hub hub) throws Exception {
        return on(hub, DeviceStatus.Enabled);
    }

    static TestDevice on(Hub hub, DeviceStatus status) throws Exception {
        Device device = new Device("java-" + UUID.randomUUID(), AuthenticationType.SAS);
        device.setStatus(status);
        device = new RegistryClient(hub.owner()).addDevice(device);
        return new TestDevice(hub, device.getDeviceId(), device.getPrimaryKey(), device.getSecondaryKey(),
                device.getGenerationId());
    }

    String connectionString() {
        return hub.device(id, key);
    }

    /** A client that is not open yet. */
    DeviceClient client(IotHubClientProtocol door) {
        return new DeviceClient(connectionString(), door, options(door).build());
    }

    /** The same, and over HTTPS it asks for messages all the time. */
    DeviceClient listener(IotHubClientProtocol door) {
        return new DeviceClient(connectionString(), door, options(door).receiveInterval(POLL_MILLIS).build());
    }

    /**
     * Tokens outlive every move of the hub's clock, but not 29 days: over AMQP the SDK counts the milliseconds until it
     * renews them in 32 bits, and with more than fit it does nothing but renew them. Over HTTPS the client does not ask for
     * messages: each poll keeps the SDK from sending meanwhile.
     */
    static ClientOptions.ClientOptionsBuilder options(IotHubClientProtocol door) {
        ClientOptions.ClientOptionsBuilder options =
                ClientOptions.builder().sasTokenExpiryTime(Duration.ofDays(7).toSeconds());
        return door == IotHubClientProtocol.HTTPS ? options.receiveInterval(NEVER) : options;
    }

    /** An open client. */
    DeviceClient open(IotHubClientProtocol door) throws Exception {
        DeviceClient client = client(door);
        client.open(false);
        return client;
    }
}
