package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.messaging.eventhubs.EventData;
import com.azure.messaging.eventhubs.models.PartitionEvent;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubStatusCode;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.ModuleClient;
import com.microsoft.azure.sdk.iot.device.edge.DirectMethodRequest;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.auth.SymmetricKey;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubConflictException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubPreconditionFailedException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodsClient;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceConnectionState;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.DeviceCapabilities;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Modules: their identities, and what ModuleClient does as one. */
class ModuleTest {
    private static final int MODULES = 20;
    private static final int NOT_ONLINE = 404103;

    private final Hub hub = Hubs.main();
    private final Events events = Events.all(hub);
    private final RegistryClient registry = new RegistryClient(hub.owner());
    private final TwinClient twins = new TwinClient(hub.owner());
    private final DirectMethodsClient methods = new DirectMethodsClient(hub.owner());

    @Test
    void aCreatedModuleIsReturnedAsItWasGiven() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Module given = new Module(device.id(), "camera", AuthenticationType.SAS);
        given.setSymmetricKey(new SymmetricKey());
        Module made = registry.addModule(given);
        Module read = registry.getModule(device.id(), "camera");
        assertEquals("camera", read.getId());
        assertEquals(device.id(), read.getDeviceId());
        assertEquals(given.getPrimaryKey(), made.getPrimaryKey());
        assertEquals(given.getSecondaryKey(), read.getSecondaryKey());
        assertEquals(made.getGenerationId(), read.getGenerationId());
        assertNotEquals(device.generationId(), read.getGenerationId());
        assertEquals(DeviceConnectionState.Disconnected, read.getConnectionState());
        assertEquals(0, read.getCloudToDeviceMessageCount());
    }

    @ParameterizedTest
    @EnumSource(AuthenticationType.class)
    void everyKindOfCredentialIsKept(AuthenticationType type) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Module given = new Module(device.id(), "camera", type);
        if (type == AuthenticationType.SELF_SIGNED) {
            given.setThumbprint("A1".repeat(20), "B2".repeat(32));
        }
        registry.addModule(given);
        Module read = registry.getModule(device.id(), "camera");
        assertEquals(type, read.getAuthenticationType());
        if (type == AuthenticationType.SELF_SIGNED) {
            assertEquals("A1".repeat(20), read.getPrimaryThumbprint());
            assertEquals("B2".repeat(32), read.getSecondaryThumbprint());
        }
    }

    @Test
    void aDeviceHoldsTwentyModulesAndNoMore() throws Exception {
        TestDevice device = TestDevice.on(hub);
        for (int n = 0; n < MODULES; n++) {
            TestModule.on(device, "m" + n);
        }
        IotHubException refusal = assertThrows(IotHubException.class, () -> TestModule.on(device, "one-too-many"));
        assertTrue(refusal.getMessage().contains("TooManyModulesOnDevice"), refusal.getMessage());
        assertEquals(IntStream.range(0, MODULES).mapToObj(n -> "m" + n).collect(Collectors.toSet()), modulesOn(device));
        registry.removeModule(device.id(), "m0");
        TestModule.on(device, "in-its-place");
    }

    @Test
    void aSecondModuleOfTheSameIdIsAConflict() throws Exception {
        TestModule module = TestModule.on(hub);
        IotHubConflictException refusal =
                assertThrows(IotHubConflictException.class, () -> TestModule.on(module.device(), module.id()));
        assertEquals(409301, refusal.getErrorCode());
    }

    @Test
    void anUnknownModuleIsNotFound() throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubNotFoundException.class, () -> registry.getModule(device.id(), "nobody"));
        assertThrows(IotHubNotFoundException.class, () -> registry.removeModule(device.id(), "nobody"));
        assertThrows(IotHubNotFoundException.class, () -> registry.updateModule(new Module(device.id(), "nobody")));
        assertThrows(IotHubNotFoundException.class, () -> registry.getModule("nobody-" + UUID.randomUUID(), "camera"));
    }

    @Test
    void aModuleIdOutsideTheGrammarIsBadFormat() throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubBadFormatException.class, () -> TestModule.on(device, "no~tildes"));
        assertThrows(IotHubBadFormatException.class, () -> TestModule.on(device, "$reserved"));
    }

    @Test
    void anUpdateMovesTheEtagAndAStaleOneDeletesNothing() throws Exception {
        TestModule module = TestModule.on(hub);
        Module stale = registry.getModule(module.device().id(), module.id());
        Module change = registry.getModule(module.device().id(), module.id());
        change.setSymmetricKey(new SymmetricKey());
        assertEquals(change.getPrimaryKey(), registry.updateModule(change).getPrimaryKey());
        assertThrows(IotHubPreconditionFailedException.class, () -> registry.removeModule(stale));
        registry.removeModule(registry.getModule(module.device().id(), module.id()));
        assertEquals(Set.of(), modulesOn(module.device()));
    }

    @Test
    void modulesGoWithTheirDevice() throws Exception {
        TestModule module = TestModule.on(hub);
        registry.removeDevice(module.device().id());
        registry.addDevice(new Device(module.device().id()));
        assertEquals(Set.of(), modulesOn(module.device()));
        assertThrows(IotHubNotFoundException.class, () -> twins.get(module.device().id(), module.id()));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void anOutputIsNamedOnTheTelemetryOfAModule(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        ModuleClient client = module.open(door);
        try {
            Message message = new Message("seen");
            message.setProperty("colour", "red & green");
            client.sendEvent(message, "out-1", Messages.SEND_MILLIS);
            client.sendEvent(new Message("heard"), "out-2", Messages.SEND_MILLIS);
            client.sendEvent(new Message("no output"), Messages.SEND_MILLIS);
        } finally {
            client.close();
        }
        List<PartitionEvent> stored = events.of(module.device(), 3);
        assertEquals(List.of("seen", "heard", "no output"), Events.bodies(stored));
        assertEquals("out-1", output(stored.get(0).getData()));
        assertEquals("out-2", output(stored.get(1).getData()));
        assertEquals("null", output(stored.get(2).getData()));
        assertEquals("red & green", stored.get(0).getData().getProperties().get("colour"));
        stored.forEach(event -> assertEquals(module.id(),
                event.getData().getSystemProperties().get("iothub-connection-module-id")));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aModuleHasATwinOfItsOwn(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        String deviceId = module.device().id();
        ModuleClient client = module.open(door);
        DeviceClient device = module.device().open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            Twins.Changes deviceChanges = Twins.follow(device);
            desire(new Twin(deviceId), "for", "the device");
            desire(new Twin(deviceId, module.id()), "for", "the module");
            assertEquals(Map.of("for", "the device"), deviceChanges.next());
            assertEquals(Map.of("for", "the module"), changes.next());
            assertEquals(2, Twins.report(client, Twins.of("from", "the module")));
            assertEquals(2, Twins.report(device, Twins.of("from", "the device")));
            assertEquals(Map.of("for", "the module"), Twins.get(client).getDesiredProperties());
            assertEquals(Map.of("from", "the module"), Twins.get(client).getReportedProperties());

            Twin twin = twins.get(deviceId, module.id());
            assertEquals(deviceId, twin.getDeviceId());
            assertEquals(module.id(), twin.getModuleId());
            assertEquals("CONNECTED", twin.getConnectionState());
            assertEquals(Map.of("from", "the module"), twin.getReportedProperties());
            assertEquals(Map.of("from", "the device"), twins.get(deviceId).getReportedProperties());
        } finally {
            client.close();
            device.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aModuleTwinIsGuardedReplacedAndCleared(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        String deviceId = module.device().id();
        ModuleClient client = module.open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            String stale = twins.get(deviceId, module.id()).getETag();
            Twin change = new Twin(deviceId, module.id());
            change.getTags().put("t", 1);
            change.getDesiredProperties().put("went", 1);
            twins.patch(change, stale);
            assertThrows(IotHubPreconditionFailedException.class, () -> twins.patch(change, stale));
            Twin replacement = new Twin(deviceId, module.id());
            replacement.getDesiredProperties().put("came", 2);
            assertEquals(Map.of(), twins.replace(replacement).getTags());

            assertEquals(Map.of("went", 1L), changes.next());
            Map<String, Object> told = new HashMap<>(Map.of("came", 2L));
            told.put("went", null);
            assertEquals(told, changes.next());
            com.microsoft.azure.sdk.iot.device.twin.TwinCollection none = Twins.of("n", 1);
            Twins.report(client, none);
            assertEquals(3, Twins.report(client, Twins.of("n", null)));
            assertEquals(Map.of(), Twins.get(client).getReportedProperties());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aModuleAnswersItsOwnMethods(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        TestModule other = TestModule.on(module.device(), "microphone");
        ModuleClient client = module.open(door);
        ModuleClient silent = other.open(door);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(payload.getAsInt(), Map.of("name", name)));
            com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse response =
                    methods.invoke(module.device().id(), module.id(), "zoom", Methods.with(207));
            assertEquals(207, response.getStatus());
            assertEquals(Methods.json("{\"name\":\"zoom\"}"), response.getPayloadAsJsonElement());
            assertNotOnline(module.device().id(), other.id());
            assertNotOnline(module.device().id(), null);
        } finally {
            client.close();
            silent.close();
        }
    }

    @Test
    void aMethodOfAnOfflineOrUnknownModuleIsRefused() throws Exception {
        TestModule module = TestModule.on(hub);
        assertNotOnline(module.device().id(), module.id());
        assertThrows(IotHubNotFoundException.class,
                () -> methods.invoke(module.device().id(), "nobody", "zoom", Methods.NOW));
    }

    /** As an edge module does: over HTTPS, with the module's own token, whatever its door is. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "AMQPS"})
    void aModuleCallsMethodsOfItsDeviceAndOfItsDevicesModules(IotHubClientProtocol door) throws Exception {
        TestModule caller = TestModule.on(hub);
        TestModule called = TestModule.on(caller.device(), "microphone");
        DeviceClient device = called.device().open(door);
        ModuleClient module = called.open(door);
        ModuleClient client = caller.open(door);
        try {
            Methods.answer(device, (name, payload) -> new DirectMethodResponse(201, "device"));
            Methods.answer(module, (name, payload) -> new DirectMethodResponse(202, payload));
            com.microsoft.azure.sdk.iot.device.edge.DirectMethodResponse fromDevice =
                    client.invokeMethod(caller.device().id(), new DirectMethodRequest("reboot", null, 30, 10));
            assertEquals(201, fromDevice.getStatus());
            assertEquals("device", fromDevice.getPayload(String.class));
            com.microsoft.azure.sdk.iot.device.edge.DirectMethodResponse fromModule =
                    client.invokeMethod(caller.device().id(), called.id(), new DirectMethodRequest("mute", Map.of("on", true), 30, 10));
            assertEquals(202, fromModule.getStatus());
            assertEquals(Methods.json("{\"on\":true}"), fromModule.getPayloadAsJsonElement());
        } finally {
            client.close();
            module.close();
            device.close();
        }
    }

    @Test
    void aModuleCallsNoMethodsOfStrangers() throws Exception {
        TestDevice stranger = TestDevice.on(hub);
        TestModule caller = TestModule.on(hub);
        ModuleClient client = caller.open(IotHubClientProtocol.MQTT);
        try {
            IotHubClientException refusal = assertThrows(IotHubClientException.class,
                    () -> client.invokeMethod(stranger.id(), new DirectMethodRequest("reboot", null, 10, 5)));
            assertEquals(IotHubStatusCode.UNAUTHORIZED, refusal.getStatusCode());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theKeyOfTheDeviceIsNotTheKeyOfItsModule(IotHubClientProtocol door) throws Exception {
        TestModule module = TestModule.on(hub);
        ModuleClient client = new TestModule(module.device(), module.id(), module.device().key()).client(door);
        client.setRetryPolicy(new NoRetry());
        try {
            IotHubClientException refusal = assertThrows(IotHubClientException.class, () -> client.open(false));
            assertEquals(IotHubStatusCode.UNAUTHORIZED, refusal.getStatusCode());
        } finally {
            client.close();
        }
    }

    /** The SDK offers certificates of modules on these doors only. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "AMQPS"})
    void aSelfSignedCertificateIsAModulesCredential(IotHubClientProtocol door, @TempDir Path directory) throws Exception {
        SelfSigned certificate = new SelfSigned(directory);
        TestDevice device = TestDevice.on(hub);
        Module given = new Module(device.id(), "camera", AuthenticationType.SELF_SIGNED);
        given.setThumbprint(certificate.thumbprint("SHA-256"), certificate.thumbprint("SHA-1"));
        registry.addModule(given);
        ModuleClient client = new ModuleClient("HostName=" + hub.address + ";DeviceId=" + device.id()
                + ";ModuleId=camera;x509=true", door, TestDevice.options(door).sslContext(certificate.context()).build());
        try {
            client.open(false);
            Twins.follow(client);
            assertEquals(2, Twins.report(client, Twins.of("signed", true)));
        } finally {
            client.close();
        }
        assertEquals(Map.of("signed", true), twins.get(device.id(), "camera").getReportedProperties());
    }

    @Test
    void anEdgeDeviceHasItsSystemModules() throws Exception {
        Device device = new Device("java-edge-" + UUID.randomUUID());
        DeviceCapabilities capabilities = new DeviceCapabilities();
        capabilities.setIotEdge(true);
        device.setCapabilities(capabilities);
        registry.addDevice(device);
        List<Module> modules = registry.getModulesOnDevice(device.getDeviceId());
        assertEquals(Set.of("$edgeAgent", "$edgeHub"), modules.stream().map(Module::getId).collect(Collectors.toSet()));
        modules.forEach(module -> assertEquals("iotEdge", module.getManagedBy()));
    }

    @Test
    void theRegistryReadPolicyReadsModulesAndWritesNone() throws Exception {
        TestModule module = TestModule.on(hub);
        RegistryClient reader = new RegistryClient(hub.policy("registryRead"));
        assertEquals(module.id(), reader.getModule(module.device().id(), module.id()).getId());
        assertThrows(IotHubUnauthorizedException.class, () -> reader.removeModule(module.device().id(), module.id()));
        assertThrows(IotHubUnauthorizedException.class,
                () -> reader.addModule(new Module(module.device().id(), "another", AuthenticationType.SAS)));
    }

    private void assertNotOnline(String deviceId, String moduleId) {
        IotHubNotFoundException refusal = assertThrows(IotHubNotFoundException.class, () -> {
            if (moduleId == null) {
                methods.invoke(deviceId, "zoom", Methods.NOW);
            } else {
                methods.invoke(deviceId, moduleId, "zoom", Methods.NOW);
            }
        });
        assertEquals(NOT_ONLINE, refusal.getErrorCode());
    }

    private void desire(Twin twin, String name, Object value) throws Exception {
        twin.getDesiredProperties().put(name, value);
        twins.patch(twin);
    }

    private Set<String> modulesOn(TestDevice device) throws Exception {
        return registry.getModulesOnDevice(device.id()).stream().map(Module::getId).collect(Collectors.toSet());
    }

    private static String output(EventData event) {
        Map<String, Object> all = new HashMap<>(event.getSystemProperties());
        all.putAll(event.getProperties());
        return String.valueOf(all.get("iothub-outputname"));
    }
}
