package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.InternalClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.ModuleClient;
import com.microsoft.azure.sdk.iot.device.transport.IotHubConnectionStatus;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceConnectionState;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import com.microsoft.azure.sdk.iot.service.twin.TwinStatus;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** How connections end when their identity does, and that the connection state is right after every kind of end. */
class LifecycleTest {
    private final Hub hub = Hubs.main();
    private final RegistryClient registry = new RegistryClient(hub.owner());
    private final TwinClient twins = new TwinClient(hub.owner());

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void deletingADeviceEndsItsConnection(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        CountDownLatch lost = lost(client);
        client.open(false);
        try {
            registry.removeDevice(device.id());
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the connection outlived its device");
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aDisabledDeviceIsCutOffAndComesBackWhenEnabled(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        CountDownLatch lost = lost(client);
        client.open(false);
        try {
            setStatus(device, DeviceStatus.Disabled);
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the connection stayed open");
            Await.until("disconnection", () -> state(device), DeviceConnectionState.Disconnected::equals);
            assertEquals(TwinStatus.DISABLED, twins.get(device.id()).getStatus());
        } finally {
            client.close();
        }
        setStatus(device, DeviceStatus.Enabled);
        DeviceClient again = device.open(door);
        try {
            Messages.send(again, "back");
        } finally {
            again.close();
        }
        assertEquals("back", Events.all(hub).only(device).getBodyAsString());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void deletingAModuleEndsItsConnectionAndNotItsDevices(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        DeviceClient device = module.device().open(door);
        ModuleClient client = module.client(door);
        CountDownLatch lost = lost(client);
        client.open(false);
        try {
            registry.removeModule(module.device().id(), module.id());
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the connection outlived its module");
            Messages.send(device, "unmoved");
        } finally {
            client.close();
            device.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void disablingADeviceEndsTheConnectionsOfItsModules(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        ModuleClient client = module.client(door);
        CountDownLatch lost = lost(client);
        client.open(false);
        try {
            setStatus(module.device(), DeviceStatus.Disabled);
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the module stayed connected");
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theStateIsRightAfterACleanEndAndAfterACut(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        String never = registry.getDevice(device.id()).getConnectionStateUpdatedTime();
        DeviceClient client = device.client(door);
        CountDownLatch lost = lost(client);
        client.open(false);
        Await.until("connection", () -> state(device), DeviceConnectionState.Connected::equals);
        assertEquals("CONNECTED", twins.get(device.id()).getConnectionState());
        assertNotEquals(never, registry.getDevice(device.id()).getConnectionStateUpdatedTime());
        hub.cut(device.id());
        assertTrue(lost.await(30, TimeUnit.SECONDS), "the connection stayed open");
        Await.until("disconnection", () -> state(device), DeviceConnectionState.Disconnected::equals);
        assertEquals("DISCONNECTED", twins.get(device.id()).getConnectionState());
        client.close();

        DeviceClient second = device.open(door);
        Await.until("connection", () -> state(device), DeviceConnectionState.Connected::equals);
        second.close();
        Await.until("disconnection", () -> state(device), DeviceConnectionState.Disconnected::equals);
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aModulesStateIsItsOwn(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        ModuleClient client = module.open(door);
        Await.until("connection", () -> state(module), DeviceConnectionState.Connected::equals);
        assertEquals(DeviceConnectionState.Disconnected, state(module.device()));
        client.close();
        Await.until("disconnection", () -> state(module), DeviceConnectionState.Disconnected::equals);
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aSecondConnectionReplacesTheFirstAndTheDeviceStaysConnected(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient first = device.client(door);
        CountDownLatch lost = lost(first);
        first.open(false);
        DeviceClient second = device.open(door);
        try {
            assertTrue(lost.await(30, TimeUnit.SECONDS), "the first connection stayed open");
            Messages.send(second, "from the second");
            assertEquals(DeviceConnectionState.Connected, state(device));
        } finally {
            first.close();
            second.close();
        }
    }

    private static CountDownLatch lost(InternalClient client) {
        client.setRetryPolicy(new NoRetry());
        CountDownLatch lost = new CountDownLatch(1);
        client.setConnectionStatusChangeCallback(change -> {
            if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED) {
                lost.countDown();
            }
        }, null);
        return lost;
    }

    private void setStatus(TestDevice device, DeviceStatus status) throws Exception {
        Device identity = registry.getDevice(device.id());
        identity.setStatus(status);
        registry.updateDevice(identity);
    }

    private DeviceConnectionState state(TestDevice device) throws Exception {
        return registry.getDevice(device.id()).getConnectionState();
    }

    private DeviceConnectionState state(TestModule module) throws Exception {
        return registry.getModule(module.device().id(), module.id()).getConnectionState();
    }
}
