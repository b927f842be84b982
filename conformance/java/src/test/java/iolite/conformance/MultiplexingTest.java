package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.MultiplexingClient;
import com.microsoft.azure.sdk.iot.device.exceptions.MultiplexingClientRegistrationException;
import com.microsoft.azure.sdk.iot.device.transport.IotHubConnectionStatus;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodsClient;
import com.microsoft.azure.sdk.iot.service.registry.DeviceConnectionState;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Many devices on one AMQP connection, each with its own token, each failing alone. */
class MultiplexingTest {
    private static final int DEVICES = 24;
    private static final String WRONG_KEY = "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkhISE=";

    private final Hub hub = Hubs.main();
    private final RegistryClient registry = new RegistryClient(hub.owner());

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void everyDeviceSendsUnderItsOwnName(IotHubClientProtocol door) throws Exception {
        try (Fleet fleet = new Fleet(door)) {
            fleet.open();
            fleet.sendFromEach("one", "two", "three");
            for (TestDevice device : fleet.devices) {
                assertEquals(List.of("one", "two", "three"), Events.bodies(Events.all(hub).of(device, 3)));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void aMessageReachesTheDeviceItIsFor(IotHubClientProtocol door) throws Exception {
        try (Fleet fleet = new Fleet(door); Service service = new Service(hub, IotHubServiceClientProtocol.AMQPS)) {
            List<Messages.Inbox> inboxes = fleet.clients.stream().map(Messages::listen).toList();
            fleet.open();
            service.sendToEach(fleet.devices, device -> "for " + device.id())
                    .forEach(result -> assertTrue(result.wasSentSuccessfully()));
            for (int n = 0; n < DEVICES; n++) {
                assertEquals("for " + fleet.devices.get(n).id(), inboxes.get(n).nextBody());
            }
            assertTrue(inboxes.stream().allMatch(inbox -> inbox.arrived().isEmpty()));
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void aWrongKeyAtOpeningFailsAlone(IotHubClientProtocol door) throws Exception {
        try (Fleet fleet = new Fleet(door)) {
            TestDevice stranger = TestDevice.on(hub);
            DeviceClient forged = forged(stranger, door);
            fleet.multiplexing.registerDeviceClient(forged);
            MultiplexingClientRegistrationException refusal =
                    assertThrows(MultiplexingClientRegistrationException.class, fleet::open);
            assertEquals(Set.of(stranger.id()), refusal.getRegistrationExceptions().keySet());
            // Whatever its documentation says, the SDK sends nothing before an open() without an exception.
            fleet.multiplexing.unregisterDeviceClient(forged);
            fleet.open();
            fleet.sendFromEach("sent all the same");
            for (TestDevice device : fleet.devices) {
                assertEquals(List.of("sent all the same"), Events.bodies(Events.all(hub).of(device, 1)));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void aWrongKeyOnAnOpenConnectionFailsAlone(IotHubClientProtocol door) throws Exception {
        try (Fleet fleet = new Fleet(door)) {
            fleet.open();
            fleet.sendFromEach("before");
            TestDevice stranger = TestDevice.on(hub);
            MultiplexingClientRegistrationException refusal = assertThrows(MultiplexingClientRegistrationException.class,
                    () -> fleet.multiplexing.registerDeviceClient(forged(stranger, door)));
            assertEquals(Set.of(stranger.id()), refusal.getRegistrationExceptions().keySet());
            fleet.sendFromEach("after");
            for (TestDevice device : fleet.devices) {
                assertEquals(List.of("before", "after"), Events.bodies(Events.all(hub).of(device, 2)));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void aDeletedDeviceLeavesAlone(IotHubClientProtocol door) throws Exception {
        try (Fleet fleet = new Fleet(door)) {
            CountDownLatch lost = new CountDownLatch(1);
            DeviceClient leaving = fleet.clients.get(0);
            leaving.setRetryPolicy(new NoRetry());
            leaving.setConnectionStatusChangeCallback(change -> {
                if (change.getNewStatus() != IotHubConnectionStatus.CONNECTED) {
                    lost.countDown();
                }
            }, null);
            fleet.open();
            registry.removeDevice(fleet.devices.get(0).id());
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the deleted device stayed connected");
            for (int n = 1; n < DEVICES; n++) {
                Messages.send(fleet.clients.get(n), "still here");
                assertEquals(List.of("still here"), Events.bodies(Events.all(hub).of(fleet.devices.get(n), 1)));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void devicesComeAndGoOnAnOpenConnection(IotHubClientProtocol door) throws Exception {
        try (Fleet fleet = new Fleet(door)) {
            fleet.open();
            TestDevice leaving = fleet.devices.get(0);
            fleet.multiplexing.unregisterDeviceClient(fleet.clients.get(0));
            Await.until("disconnection", () -> registry.getDevice(leaving.id()).getConnectionState(),
                    DeviceConnectionState.Disconnected::equals);

            TestDevice joining = TestDevice.on(hub);
            DeviceClient joined = joining.client(door);
            fleet.multiplexing.registerDeviceClient(joined);
            Messages.send(joined, "hello");
            assertEquals("hello", Events.all(hub).only(joining).getBodyAsString());
            Messages.send(fleet.clients.get(1), "unmoved");
            assertEquals("unmoved", Events.all(hub).only(fleet.devices.get(1)).getBodyAsString());
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void everyDeviceHasItsOwnTwin(IotHubClientProtocol door) throws Exception {
        TwinClient twins = new TwinClient(hub.owner());
        try (Fleet fleet = new Fleet(door)) {
            fleet.open();
            List<Twins.Changes> changes = new ArrayList<>();
            for (DeviceClient client : fleet.clients) {
                changes.add(Twins.follow(client));
            }
            for (int n = 0; n < DEVICES; n++) {
                Twin desired = new Twin(fleet.devices.get(n).id());
                desired.getDesiredProperties().put("for", n);
                twins.patch(desired);
                assertEquals(2, Twins.report(fleet.clients.get(n), Twins.of("from", n)));
            }
            for (int n = 0; n < DEVICES; n++) {
                assertEquals(Map.of("for", (long) n), changes.get(n).next());
                assertEquals(Map.of("from", (long) n), Twins.get(fleet.clients.get(n)).getReportedProperties());
                assertEquals(Map.of("from", (long) n), twins.get(fleet.devices.get(n).id()).getReportedProperties());
            }
            assertTrue(changes.stream().allMatch(change -> change.arrived().isEmpty()), "a change reached a stranger");
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void everyDeviceAnswersItsOwnMethods(IotHubClientProtocol door) throws Exception {
        DirectMethodsClient methods = new DirectMethodsClient(hub.owner());
        try (Fleet fleet = new Fleet(door)) {
            fleet.open();
            for (int n = 0; n < DEVICES; n++) {
                String own = fleet.devices.get(n).id();
                Methods.answer(fleet.clients.get(n), (name, payload) -> new DirectMethodResponse(200, own));
            }
            for (TestDevice device : fleet.devices) {
                assertEquals(device.id(), methods.invoke(device.id(), "who", Methods.NOW).getPayload(String.class));
            }
            fleet.multiplexing.unregisterDeviceClient(fleet.clients.get(0));
            String left = fleet.devices.get(0).id();
            Await.until("end of the first device's methods", () -> refused(methods, left), code -> code == 404103);
            String stayed = fleet.devices.get(1).id();
            assertEquals(stayed, methods.invoke(stayed, "who", Methods.NOW).getPayload(String.class));
        }
    }

    /** The SDK takes the end of one device's links for that of the connection a moment later, so all the devices come back. */
    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS"})
    void afterACutEveryDeviceIsThereAgainWithItsTwinAndMethods(IotHubClientProtocol door) throws Exception {
        TwinClient twins = new TwinClient(hub.owner());
        DirectMethodsClient methods = new DirectMethodsClient(hub.owner());
        try (Fleet fleet = new Fleet(door)) {
            CountDownLatch gone = new CountDownLatch(1);
            fleet.clients.get(0).setConnectionStatusChangeCallback(change -> {
                if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED_RETRYING) {
                    gone.countDown();
                }
            }, null);
            fleet.open();
            Twins.Changes changes = Twins.follow(fleet.clients.get(0));
            Methods.echo(fleet.clients.get(0));
            Methods.echo(fleet.clients.get(1));
            hub.cut(fleet.devices.get(0).id());
            assertTrue(gone.await(30, TimeUnit.SECONDS), "the device stayed connected");
            for (int n = 0; n < 2; n++) {
                String device = fleet.devices.get(n).id();
                Await.until("answer of " + device, () -> refused(methods, device), code -> code == 0);
            }
            Await.until("change of the desired properties", () -> {
                Twin desired = new Twin(fleet.devices.get(0).id());
                desired.getDesiredProperties().put("again", true);
                twins.patch(desired);
                return changes.arrived().poll(1, TimeUnit.SECONDS);
            }, Map.of("again", true)::equals);
        }
    }

    private static int refused(DirectMethodsClient methods, String deviceId) throws Exception {
        try {
            methods.invoke(deviceId, "who", Methods.NOW);
            return 0;
        } catch (IotHubException e) {
            return e.getErrorCode();
        }
    }

    private DeviceClient forged(TestDevice device, IotHubClientProtocol door) {
        return new DeviceClient(hub.device(device.id(), WRONG_KEY), door);
    }

    /** Devices registered on one multiplexing client. */
    private final class Fleet implements AutoCloseable {
        final List<TestDevice> devices = new ArrayList<>();
        final List<DeviceClient> clients = new ArrayList<>();
        final MultiplexingClient multiplexing;

        Fleet(IotHubClientProtocol door) throws Exception {
            multiplexing = new MultiplexingClient(hub.address, door);
            for (int n = 0; n < DEVICES; n++) {
                TestDevice device = TestDevice.on(hub);
                devices.add(device);
                clients.add(device.client(door));
            }
            multiplexing.registerDeviceClients(clients);
        }

        void open() throws Exception {
            multiplexing.open(false);
        }

        void sendFromEach(String... bodies) throws Exception {
            for (DeviceClient client : clients) {
                Messages.sendEach(client, List.of(bodies));
            }
        }

        @Override
        public void close() {
            multiplexing.close();
        }
    }
}
