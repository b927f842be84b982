package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import com.microsoft.azure.sdk.iot.service.digitaltwin.DigitalTwinClient;
import com.microsoft.azure.sdk.iot.service.digitaltwin.UpdateOperationUtility;
import com.microsoft.azure.sdk.iot.service.digitaltwin.customized.DigitalTwinGetHeaders;
import com.microsoft.azure.sdk.iot.service.digitaltwin.customized.DigitalTwinUpdateHeaders;
import com.microsoft.azure.sdk.iot.service.digitaltwin.models.DigitalTwinCommandResponse;
import com.microsoft.azure.sdk.iot.service.digitaltwin.models.DigitalTwinInvokeCommandHeaders;
import com.microsoft.azure.sdk.iot.service.digitaltwin.models.DigitalTwinInvokeCommandRequestOptions;
import com.microsoft.azure.sdk.iot.service.digitaltwin.models.DigitalTwinUpdateRequestOptions;
import com.microsoft.azure.sdk.iot.service.digitaltwin.serialization.BasicDigitalTwin;
import com.microsoft.azure.sdk.iot.service.digitaltwin.serialization.WritableProperty;
import com.microsoft.rest.RestException;
import com.microsoft.rest.ServiceResponseWithHeaders;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** IoT Plug and Play: a device with a model, seen and changed through DigitalTwinClient. */
class DigitalTwinTest {
    private static final String MODEL = "dtmi:com:example:TemperatureController;1";

    private final Hub hub = Hubs.main();
    private final DigitalTwinClient twins = new DigitalTwinClient(hub.owner());

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theModelPropertiesAndComponentsOfADeviceAreSeen(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = open(device, door);
        try {
            Twins.follow(client);
            TwinCollection reported = Twins.of("serialNumber", "alwinexlepaho8329");
            reported.put("thermostat1", Map.of("__t", "c", "maxTemperature", 38.7));
            Twins.report(client, reported);
        } finally {
            client.close();
        }
        ServiceResponseWithHeaders<BasicDigitalTwin, DigitalTwinGetHeaders> response =
                twins.getDigitalTwinWithResponse(device.id(), BasicDigitalTwin.class);
        assertNotNull(response.headers().eTag());
        BasicDigitalTwin twin = response.body();
        assertEquals(device.id(), twin.getId());
        assertEquals(MODEL, twin.getMetadata().getModelId());
        assertEquals("alwinexlepaho8329", twin.getCustomProperties().get("serialNumber"));
        Map<?, ?> component = (Map<?, ?>) twin.getCustomProperties().get("thermostat1");
        assertEquals(38.7, component.get("maxTemperature"));
        assertTrue(component.containsKey("$metadata"), component.toString());
        assertFalse(component.containsKey("__t"), component.toString());
        assertNotNull(twin.getMetadata().getWriteableProperties().get("serialNumber").getLastUpdateTime());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void anUpdateIsADesiredPropertyAndItsAcknowledgementIsSeen(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = open(device, door);
        try {
            Twins.Changes changes = Twins.follow(client);
            ServiceResponseWithHeaders<Void, DigitalTwinUpdateHeaders> response = twins.updateDigitalTwinWithResponse(device.id(),
                    new UpdateOperationUtility().appendAddPropertyOperation("/targetTemperature", 42).getUpdateOperations());
            assertNotNull(response.headers().eTag());
            assertNotNull(response.headers().location());
            TwinCollection change = changes.next();
            assertEquals(Map.of("targetTemperature", 42L), change);

            Twins.report(client, Twins.of("targetTemperature",
                    Map.of("value", 42, "ac", 200, "av", change.getVersion(), "ad", "completed")));
            BasicDigitalTwin twin = twins.getDigitalTwin(device.id(), BasicDigitalTwin.class);
            assertEquals(42, twin.getCustomProperties().get("targetTemperature"));
            WritableProperty property = twin.getMetadata().getWriteableProperties().get("targetTemperature");
            assertEquals(42, property.getDesiredValue());
            assertEquals(change.getVersion(), property.getDesiredVersion());
            assertEquals(change.getVersion(), property.getAckVersion());
            assertEquals(200, property.getAckCode());
            assertEquals("completed", property.getAckDescription());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void anUpdateOfAComponentIsMarkedAsOne(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = open(device, door);
        try {
            Twins.Changes changes = Twins.follow(client);
            twins.updateDigitalTwin(device.id(), new UpdateOperationUtility()
                    .appendAddComponentOperation("/thermostat1", new HashMap<>(Map.of("targetTemperature", 21.5)))
                    .getUpdateOperations());
            assertEquals(Map.of("thermostat1", Map.of("__t", "c", "targetTemperature", 21.5)), changes.next());
            twins.updateDigitalTwin(device.id(), new UpdateOperationUtility()
                    .appendReplacePropertyOperation("/thermostat1/targetTemperature", 22.5).getUpdateOperations());
            Map<?, ?> component = (Map<?, ?>) changes.next().get("thermostat1");
            assertEquals(22.5, component.get("targetTemperature"));
        } finally {
            client.close();
        }
    }

    @Test
    void aRemovedPropertyIsGone() throws Exception {
        TestDevice device = TestDevice.on(hub);
        open(device, IotHubClientProtocol.MQTT).close();
        twins.updateDigitalTwin(device.id(), new UpdateOperationUtility()
                .appendAddPropertyOperation("/one", 1).appendAddPropertyOperation("/two", 2).getUpdateOperations());
        twins.updateDigitalTwin(device.id(), new UpdateOperationUtility()
                .appendRemovePropertyOperation("/one").getUpdateOperations());
        Map<String, WritableProperty> left =
                twins.getDigitalTwin(device.id(), BasicDigitalTwin.class).getMetadata().getWriteableProperties();
        assertFalse(left.containsKey("one"), left.toString());
        assertEquals(2, left.get("two").getDesiredValue());
    }

    @Test
    void anEtagGuardsAnUpdate() throws Exception {
        TestDevice device = TestDevice.on(hub);
        open(device, IotHubClientProtocol.MQTT).close();
        String stale = twins.getDigitalTwinWithResponse(device.id(), String.class).headers().eTag();
        String fresh = update(device, 1, stale);
        assertNotEquals(stale, fresh);
        assertStatus(412, () -> update(device, 2, stale));
        update(device, 3, fresh);
        update(device, 4, "*");
    }

    @Test
    void aPatchThatIsNoneIsBadRequest() throws Exception {
        TestDevice device = TestDevice.on(hub);
        open(device, IotHubClientProtocol.MQTT).close();
        assertStatus(400, () -> twins.updateDigitalTwin(device.id(), List.of(Map.of("op", "destroy", "path", "/one"))));
        assertStatus(400, () -> twins.updateDigitalTwin(device.id(), List.of(Map.of("op", "add", "path", "one", "value", 1))));
        assertStatus(400, () -> twins.updateDigitalTwin(device.id(), List.of(Map.of("op", "add", "path", "/a.b", "value", 1))));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aCommandIsADirectMethod(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = open(device, door);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(207, Map.of("name", name, "payload", payload)));
            DigitalTwinInvokeCommandRequestOptions options = new DigitalTwinInvokeCommandRequestOptions();
            options.setConnectTimeoutInSeconds(0);
            options.setResponseTimeoutInSeconds(20);
            ServiceResponseWithHeaders<DigitalTwinCommandResponse, DigitalTwinInvokeCommandHeaders> response =
                    twins.invokeCommandWithResponse(device.id(), "reboot", "{\"delay\":5}", options);
            assertEquals(207, response.body().getStatus());
            assertNotNull(response.headers().getRequestId());
            assertEquals(Methods.json("{\"name\":\"reboot\",\"payload\":{\"delay\":5}}"),
                    Methods.json(response.body().getPayload(String.class)));

            DigitalTwinCommandResponse component = twins.invokeComponentCommand(device.id(), "thermostat1", "getReport", "\"since\"");
            assertEquals(Methods.json("{\"name\":\"thermostat1*getReport\",\"payload\":\"since\"}"),
                    Methods.json(component.getPayload(String.class)));
        } finally {
            client.close();
        }
    }

    @Test
    void aCommandWithoutPayloadIsAnswered() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = open(device, IotHubClientProtocol.MQTT);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(200, name));
            assertEquals("\"reboot\"", twins.invokeCommand(device.id(), "reboot").getPayload(String.class));
            assertEquals("\"thermostat1*reboot\"",
                    twins.invokeComponentCommand(device.id(), "thermostat1", "reboot").getPayload(String.class));
        } finally {
            client.close();
        }
    }

    @Test
    void aCommandToAnOfflineDeviceIsNotFound() throws Exception {
        TestDevice device = TestDevice.on(hub);
        RestException refusal = assertStatus(404, () -> twins.invokeCommand(device.id(), "reboot"));
        assertTrue(refusal.response().headers().get("iothub-errorcode").equals("DeviceNotOnline"), refusal.toString());
    }

    /** The SDK makes nothing of a GET that is answered with 404. */
    @Test
    void theDigitalTwinOfNobodyIsNotFound() {
        String nobody = "nobody-" + UUID.randomUUID();
        assertNull(twins.getDigitalTwin(nobody, BasicDigitalTwin.class));
        assertStatus(404, () -> twins.updateDigitalTwin(nobody,
                new UpdateOperationUtility().appendAddPropertyOperation("/one", 1).getUpdateOperations()));
        assertStatus(404, () -> twins.invokeCommand(nobody, "reboot"));
    }

    @Test
    void digitalTwinsWantServiceConnect() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DigitalTwinClient stranger = new DigitalTwinClient(hub.policy("registryReadWrite"));
        assertStatus(401, () -> stranger.getDigitalTwin(device.id(), BasicDigitalTwin.class));
    }

    private static DeviceClient open(TestDevice device, IotHubClientProtocol door) throws Exception {
        DeviceClient client = new DeviceClient(device.connectionString(), door, TestDevice.options(door).modelId(MODEL).build());
        client.open(false);
        return client;
    }

    private String update(TestDevice device, int value, String ifMatch) {
        return twins.updateDigitalTwinWithResponse(device.id(),
                new UpdateOperationUtility().appendReplacePropertyOperation("/n", value).getUpdateOperations(),
                new DigitalTwinUpdateRequestOptions().setIfMatch(ifMatch)).headers().eTag();
    }

    private interface Call {
        void run();
    }

    private static RestException assertStatus(int status, Call call) {
        RestException refusal = assertThrows(RestException.class, call::run);
        assertEquals(status, refusal.response().code(), refusal.getMessage());
        return refusal;
    }
}
