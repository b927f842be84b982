package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.auth.SymmetricKey;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubConflictException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubPreconditionFailedException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceConnectionState;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.registry.RegistryStatistics;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The identity registry through RegistryClient: each answer, and the exception of each refusal. */
class RegistryTest {
    private final Hub hub = Hubs.main();
    private final RegistryClient registry = new RegistryClient(hub.owner());
    private final String id = "java-" + UUID.randomUUID();

    @Test
    void aCreatedDeviceIsReturnedAsItWasGiven() throws Exception {
        Device given = new Device(id, AuthenticationType.SAS);
        given.setSymmetricKey(new SymmetricKey());
        Device made = registry.addDevice(given);
        Device read = registry.getDevice(id);
        assertEquals(given.getPrimaryKey(), made.getPrimaryKey());
        assertEquals(given.getSecondaryKey(), read.getSecondaryKey());
        assertEquals(DeviceStatus.Enabled, read.getStatus());
        assertEquals(DeviceConnectionState.Disconnected, read.getConnectionState());
        assertEquals(0, read.getCloudToDeviceMessageCount());
        assertNotNull(read.getETag());
        assertEquals(made.getGenerationId(), read.getGenerationId());
    }

    @Test
    void aSecondDeviceOfTheSameIdIsAConflict() throws Exception {
        registry.addDevice(new Device(id));
        assertThrows(IotHubConflictException.class, () -> registry.addDevice(new Device(id)));
    }

    @Test
    void anUnknownDeviceIsNotFound() {
        assertThrows(IotHubNotFoundException.class, () -> registry.getDevice(id));
        assertThrows(IotHubNotFoundException.class, () -> registry.removeDevice(id));
        assertThrows(IotHubNotFoundException.class, () -> registry.updateDevice(new Device(id)));
    }

    @Test
    void anIdOutsideTheGrammarIsBadFormat() {
        assertThrows(IotHubBadFormatException.class, () -> registry.addDevice(new Device("no~tildes")));
    }

    @Test
    void anUpdateReplacesAndMovesTheEtag() throws Exception {
        Device made = registry.addDevice(new Device(id));
        String before = made.getETag();
        made.setStatus(DeviceStatus.Disabled);
        made.setSymmetricKey(new SymmetricKey());
        Device updated = registry.updateDevice(made);
        assertEquals(DeviceStatus.Disabled, updated.getStatus());
        assertEquals(made.getPrimaryKey(), registry.getDevice(id).getPrimaryKey());
        assertNotEquals(before, updated.getETag());
    }

    @Test
    void aStaleEtagIsAFailedPrecondition() throws Exception {
        Device stale = registry.addDevice(new Device(id));
        registry.updateDevice(registry.getDevice(id));
        assertThrows(IotHubPreconditionFailedException.class, () -> registry.removeDevice(stale));
        assertNotNull(registry.getDevice(id));
    }

    @Test
    void aRemovedDeviceIsGoneAndComesBackAsAnother() throws Exception {
        Device first = registry.addDevice(new Device(id));
        registry.removeDevice(first);
        assertThrows(IotHubNotFoundException.class, () -> registry.getDevice(id));
        assertNotEquals(first.getGenerationId(), registry.addDevice(new Device(id)).getGenerationId());
    }

    @ParameterizedTest
    @EnumSource(AuthenticationType.class)
    void everyKindOfCredentialIsKept(AuthenticationType type) throws Exception {
        Device given = new Device(id, type);
        if (type == AuthenticationType.SELF_SIGNED) {
            given.setThumbprint("A1".repeat(20), "B2".repeat(32));
        }
        registry.addDevice(given);
        Device read = registry.getDevice(id);
        assertEquals(type, read.getAuthenticationType());
        if (type == AuthenticationType.SELF_SIGNED) {
            assertEquals("A1".repeat(20), read.getPrimaryThumbprint());
            assertEquals("B2".repeat(32), read.getSecondaryThumbprint());
        }
    }

    @Test
    void modulesLiveUnderTheirDevice() throws Exception {
        registry.addDevice(new Device(id));
        Module made = registry.addModule(new Module(id, "camera", AuthenticationType.SAS));
        assertEquals(made.getPrimaryKey(), registry.getModule(id, "camera").getPrimaryKey());
        assertEquals(1, registry.getModulesOnDevice(id).size());
        assertThrows(IotHubConflictException.class,
                () -> registry.addModule(new Module(id, "camera", AuthenticationType.SAS)));
        made.setSymmetricKey(new SymmetricKey());
        assertEquals(made.getPrimaryKey(), registry.updateModule(made).getPrimaryKey());
        registry.removeModule(id, "camera");
        assertThrows(IotHubNotFoundException.class, () -> registry.getModule(id, "camera"));
    }

    /** The SDK misspells enabledDeviceCount and reads 0 for it from any hub. */
    @Test
    void statisticsCountByStatus() throws Exception {
        RegistryStatistics before = registry.getStatistics();
        TestDevice.on(hub, DeviceStatus.Disabled);
        TestDevice.on(hub, DeviceStatus.Enabled);
        RegistryStatistics after = registry.getStatistics();
        assertEquals(before.getTotalDeviceCount() + 2, after.getTotalDeviceCount());
        assertEquals(before.getDisabledDeviceCount() + 1, after.getDisabledDeviceCount());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theConnectionStateFollowsTheDevice(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        Await.until("connection", () -> registry.getDevice(device.id()).getConnectionState(),
                DeviceConnectionState.Connected::equals);
        client.close();
        Await.until("disconnection", () -> registry.getDevice(device.id()).getConnectionState(),
                DeviceConnectionState.Disconnected::equals);
    }

    @Test
    void aWrongPolicyKeyIsUnauthorized() {
        RegistryClient stranger = new RegistryClient(hub.owner().replaceFirst("SharedAccessKey=.*", "SharedAccessKey=d3Jvbmc="));
        assertThrows(IotHubUnauthorizedException.class, () -> stranger.getDevice(id));
    }
}
