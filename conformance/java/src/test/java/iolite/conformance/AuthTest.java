package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.ClientOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubStatusCode;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.transport.IotHubConnectionStatus;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Who may connect: every door refuses a bad credential with the status that the SDK documents for it. */
class AuthTest {
    private static final String WRONG_KEY = "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkhISE=";

    private static final Set<IotHubClientProtocol> CONNECTED = EnumSet.complementOf(EnumSet.of(IotHubClientProtocol.HTTPS));

    /** The SDK offers certificates on these doors only. */
    private static final Set<IotHubClientProtocol> CERTIFICATES =
            EnumSet.of(IotHubClientProtocol.MQTT, IotHubClientProtocol.AMQPS, IotHubClientProtocol.HTTPS);

    private final Hub hub = Hubs.main();
    private final Events events = Events.all(hub);

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aWrongKeyIsUnauthorized(IotHubClientProtocol door) throws Exception {
        assertUnauthorized(withKey(TestDevice.on(hub).id(), WRONG_KEY, door), door);
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void anUnknownDeviceIsUnauthorized(IotHubClientProtocol door) {
        assertUnauthorized(withKey("nobody-" + UUID.randomUUID(), WRONG_KEY, door), door);
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aDisabledDeviceIsUnauthorized(IotHubClientProtocol door) throws Exception {
        assertUnauthorized(TestDevice.on(hub, DeviceStatus.Disabled).client(door), door);
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void theKeyOfAnotherDeviceIsUnauthorized(IotHubClientProtocol door) throws Exception {
        assertUnauthorized(withKey(TestDevice.on(hub).id(), TestDevice.on(hub).key(), door), door);
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void anExpiredTokenIsUnauthorized(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertUnauthorized(withToken(device, Instant.now().minusSeconds(3600), door), door);
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aTokenMadeElsewhereIsAccepted(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = withToken(device, Instant.now().plusSeconds(600), door);
        sendOne(client, "by token");
        assertEquals("by token", events.only(device).getBodyAsString());
    }

    /** The hub allows five minutes for clocks that differ. */
    @Test
    void theEndOfATokenEndsTheConnection() throws Exception {
        Hub moved = Hubs.moved();
        Instant expiry = moved.now().plusSeconds(60);
        Map<IotHubClientProtocol, CountDownLatch> lost = new EnumMap<>(IotHubClientProtocol.class);
        List<DeviceClient> clients = new ArrayList<>();
        try {
            for (IotHubClientProtocol door : CONNECTED) {
                DeviceClient client = withToken(TestDevice.on(moved), expiry, door);
                clients.add(client);
                client.setRetryPolicy(new NoRetry());
                CountDownLatch disconnected = new CountDownLatch(1);
                lost.put(door, disconnected);
                client.setConnectionStatusChangeCallback(change -> {
                    if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED) {
                        disconnected.countDown();
                    }
                }, null);
                client.open(false);
            }
            moved.advance("5m30s");
            for (IotHubClientProtocol door : CONNECTED) {
                assertEquals(1, lost.get(door).getCount(), door + ": the hub gave less than five minutes");
            }
            moved.advance("31s");
            for (IotHubClientProtocol door : CONNECTED) {
                assertTrue(lost.get(door).await(30, TimeUnit.SECONDS), door + ": the connection outlived its token");
            }
        } finally {
            clients.forEach(DeviceClient::close);
        }
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void theSecondaryKeyIsAsGoodAsThePrimary(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        sendOne(withKey(device.id(), device.secondaryKey(), door), "by the second key");
        assertEquals("by the second key", events.only(device).getBodyAsString());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void disablingADeviceEndsItsConnection(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        client.setRetryPolicy(new NoRetry());
        CountDownLatch lost = new CountDownLatch(1);
        client.setConnectionStatusChangeCallback(change -> {
            if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED) {
                lost.countDown();
            }
        }, null);
        try {
            client.open(false);
            Device identity = registry().getDevice(device.id());
            identity.setStatus(DeviceStatus.Disabled);
            registry().updateDevice(identity);
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the connection stayed open");
        } finally {
            client.close();
        }
    }

    /** The SDK offers certificates on these doors only. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "AMQPS", "HTTPS"})
    void aSelfSignedCertificateIsKnownByItsThumbprint(IotHubClientProtocol door, @TempDir Path directory) throws Exception {
        SelfSigned certificate = new SelfSigned(directory);
        String id = register(certificate.thumbprint("SHA-1"), "F".repeat(40));
        sendOne(withCertificate(id, certificate.context(), door), "signed");
        assertEquals(List.of("signed"), Events.bodies(events.of(id, 1)));
        String method = events.of(id, 1).get(0).getData().getSystemProperties().get("iothub-connection-auth-method").toString();
        assertTrue(method.toLowerCase().contains("\"type\":\"x509"), method);
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "AMQPS", "HTTPS"})
    void aSha256ThumbprintServesAsTheSecondary(IotHubClientProtocol door, @TempDir Path directory) throws Exception {
        SelfSigned certificate = new SelfSigned(directory);
        String id = register("F".repeat(64), certificate.thumbprint("SHA-256"));
        sendOne(withCertificate(id, certificate.context(), door), "signed");
        assertEquals(List.of("signed"), Events.bodies(events.of(id, 1)));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "AMQPS", "HTTPS"})
    void anotherCertificateIsUnauthorized(IotHubClientProtocol door, @TempDir Path directory) throws Exception {
        SelfSigned registered = new SelfSigned(directory);
        SelfSigned presented = new SelfSigned(directory);
        String id = register(registered.thumbprint("SHA-1"), registered.thumbprint("SHA-1"));
        assertUnauthorized(withCertificate(id, presented.context(), door), door);
    }

    /** One authority for all doors, because keytool takes its time. */
    @Test
    void aCertificateOfARegisteredAuthorityNamesItsDevice(@TempDir Path directory) throws Exception {
        Authority authority = new Authority(directory);
        String id = register(AuthenticationType.CERTIFICATE_AUTHORITY);
        String other = register(AuthenticationType.CERTIFICATE_AUTHORITY);
        SSLContext issued = authority.context(id);
        assertUnauthorized(withCertificate(id, issued, IotHubClientProtocol.MQTT), IotHubClientProtocol.MQTT);
        hub.register(authority);
        for (IotHubClientProtocol door : CERTIFICATES) {
            sendOne(withCertificate(id, issued, door), door.toString());
            assertUnauthorized(withCertificate(other, issued, door), door);
            assertUnauthorized(withCertificate(id, new SelfSigned(directory).context(), door), door);
        }
        assertEquals(Set.of("MQTT", "AMQPS", "HTTPS"), Set.copyOf(Events.bodies(events.of(id, 3))));
    }

    private RegistryClient registry() {
        return new RegistryClient(hub.owner());
    }

    private String register(AuthenticationType type) throws Exception {
        return registry().addDevice(new Device("java-auth-" + UUID.randomUUID(), type)).getDeviceId();
    }

    private String register(String primary, String secondary) throws Exception {
        Device device = new Device("java-x509-" + UUID.randomUUID(), AuthenticationType.SELF_SIGNED);
        device.setThumbprint(primary, secondary);
        return registry().addDevice(device).getDeviceId();
    }

    private DeviceClient withKey(String id, String key, IotHubClientProtocol door) {
        return new DeviceClient(hub.device(id, key), door, TestDevice.options(door).build());
    }

    private static DeviceClient withToken(TestDevice device, Instant expiry, IotHubClientProtocol door) throws Exception {
        String address = device.hub().address;
        char[] token = Sas.token(address + "/devices/" + device.id(), device.key(), expiry).toCharArray();
        return new DeviceClient(address, device.id(), () -> token, door, TestDevice.options(door).build());
    }

    private DeviceClient withCertificate(String id, SSLContext context, IotHubClientProtocol door) {
        ClientOptions options = TestDevice.options(door).sslContext(context).build();
        return new DeviceClient("HostName=" + hub.address + ";DeviceId=" + id + ";x509=true", door, options);
    }

    private static void sendOne(DeviceClient client, String body) throws Exception {
        try {
            client.open(false);
            Messages.send(client, body);
        } finally {
            client.close();
        }
    }

    /** Over HTTPS nothing is asked of the hub before the first message. */
    private static void assertUnauthorized(DeviceClient client, IotHubClientProtocol door) {
        client.setRetryPolicy(new NoRetry());
        try {
            IotHubClientException refusal = assertThrows(IotHubClientException.class, () -> {
                client.open(false);
                client.sendEvent(new Message("forged"), Messages.SEND_MILLIS);
            });
            assertEquals(IotHubStatusCode.UNAUTHORIZED, refusal.getStatusCode(), () -> door + ": " + refusal);
        } finally {
            client.close();
        }
    }
}
