package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
import com.microsoft.azure.sdk.iot.service.twin.DeviceCapabilities;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.Base64;
import java.util.List;
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

    /** The SDK puts ids into paths as they are, so no hub ever sees those with % # or ? from it. */
    @Test
    void anIdMayHoldEveryCharacterThatAPathMay() throws Exception {
        String every = "AZaz09-:.+_*!(),=@;$'" + id;
        registry.addDevice(new Device(every));
        assertEquals(every, registry.getDevice(every).getDeviceId());
        registry.addModule(new Module(every, "M-:.+_*!(),=@;$'"));
        assertEquals("M-:.+_*!(),=@;$'", registry.getModule(every, "M-:.+_*!(),=@;$'").getId());
        TwinClient twins = new TwinClient(hub.owner());
        assertEquals(every, twins.get(every).getDeviceId());
        assertEquals("M-:.+_*!(),=@;$'", twins.get(every, "M-:.+_*!(),=@;$'").getModuleId());
        registry.removeDevice(every);
        assertThrows(IotHubNotFoundException.class, () -> registry.getDevice(every));
    }

    @Test
    void anIdOf128CharactersIsTheLongest() throws Exception {
        String longest = (id + "x".repeat(128)).substring(0, 128);
        assertEquals(longest, registry.addDevice(new Device(longest)).getDeviceId());
        assertThrows(IotHubBadFormatException.class, () -> registry.addDevice(new Device(longest + "x")));
    }

    @Test
    void idsAreCaseSensitive() throws Exception {
        registry.addDevice(new Device(id));
        assertThrows(IotHubNotFoundException.class, () -> registry.getDevice(id.toUpperCase()));
    }

    @Test
    void aThumbprintThatIsNoneIsBadFormat() {
        Device device = new Device(id, AuthenticationType.SELF_SIGNED);
        device.setThumbprint("A1".repeat(19), "B2".repeat(20));
        assertThrows(IotHubBadFormatException.class, () -> registry.addDevice(device));
    }

    @Test
    void keysHave16To64Bytes() throws Exception {
        assertEquals(key(16), registry.addDevice(withKeys(id + "-16", 16)).getPrimaryKey());
        assertEquals(key(64), registry.addDevice(withKeys(id + "-64", 64)).getSecondaryKey());
        assertThrows(IotHubBadFormatException.class, () -> registry.addDevice(withKeys(id, 15)));
        assertThrows(IotHubBadFormatException.class, () -> registry.addDevice(withKeys(id, 65)));
    }

    @Test
    void anEdgeDeviceIsGivenItsScopeAndKeepsIt() throws Exception {
        Device edge = registry.addDevice(edge(id));
        assertTrue(edge.getCapabilities().isIotEdge());
        assertEquals("ms-azure-iot-edge://" + id + "-" + edge.getGenerationId(), edge.getScope());
        assertEquals(edge.getScope(), registry.getDevice(id).getScope());
        edge.setScope("ms-azure-iot-edge://another-1");
        assertThrows(IotHubBadFormatException.class, () -> registry.updateDevice(edge));
        assertTrue(new TwinClient(hub.owner()).get(id).getCapabilities().isIotEdge());
    }

    @Test
    void aLeafDeviceNamesItsParentsScope() throws Exception {
        Device edge = registry.addDevice(edge(id));
        Device leaf = new Device(id + "-leaf");
        leaf.setScope(edge.getScope());
        Device made = registry.addDevice(leaf);
        assertEquals(edge.getScope(), made.getScope());
        assertEquals(List.of(edge.getScope()), made.getParentScopes());
        assertFalse(made.getCapabilities().isIotEdge());
        made.setScope("nowhere");
        assertThrows(IotHubBadFormatException.class, () -> registry.updateDevice(made));
    }

    @Test
    void edgeDevicesNest() throws Exception {
        Device parent = registry.addDevice(edge(id));
        Device child = edge(id + "-child");
        child.getParentScopes().add(parent.getScope());
        Device made = registry.addDevice(child);
        assertEquals(List.of(parent.getScope()), made.getParentScopes());
        assertNotEquals(parent.getScope(), made.getScope());
    }

    @Test
    void aDeviceMayBecomeAnEdgeDevice() throws Exception {
        Device device = registry.addDevice(new Device(id));
        device.setCapabilities(edge(id).getCapabilities());
        assertTrue(registry.updateDevice(device).getCapabilities().isIotEdge());
        assertEquals(2, registry.getModulesOnDevice(id).size());
    }

    @Test
    void statusTimesAreKept() throws Exception {
        Device device = registry.addDevice(new Device(id));
        device.setStatus(DeviceStatus.Disabled);
        registry.updateDevice(device);
        String updated = registry.getDevice(id).getStatusUpdatedTime(); // the SDK leaves the Z out
        Instant time = LocalDateTime.parse(updated).toInstant(ZoneOffset.UTC);
        assertTrue(Duration.between(time, Instant.now()).abs().toSeconds() < 60, updated);
    }

    @Test
    void policiesReachAsFarAsTheirRights() throws Exception {
        registry.addDevice(new Device(id));
        RegistryClient reader = new RegistryClient(hub.policy("registryRead"));
        assertEquals(id, reader.getDevice(id).getDeviceId());
        assertNotNull(reader.getStatistics());
        assertThrows(IotHubUnauthorizedException.class, () -> reader.removeDevice(id));
        RegistryClient writer = new RegistryClient(hub.policy("registryReadWrite"));
        assertEquals(id, writer.updateDevice(writer.getDevice(id)).getDeviceId());
        for (String policy : List.of("service", "device")) {
            RegistryClient other = new RegistryClient(hub.policy(policy));
            assertThrows(IotHubUnauthorizedException.class, () -> other.getDevice(id), policy);
        }
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

    private static Device edge(String id) {
        Device device = new Device(id);
        DeviceCapabilities capabilities = new DeviceCapabilities();
        capabilities.setIotEdge(true);
        device.setCapabilities(capabilities);
        return device;
    }

    private static String key(int bytes) {
        return Base64.getEncoder().encodeToString("k".repeat(bytes).getBytes());
    }

    private static Device withKeys(String id, int bytes) {
        Device device = new Device(id);
        device.getSymmetricKey().setPrimaryKey(key(bytes));
        device.getSymmetricKey().setSecondaryKey(key(bytes));
        return device;
    }
}
