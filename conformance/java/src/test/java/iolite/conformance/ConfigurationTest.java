package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.service.configurations.Configuration;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationContent;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationMetrics;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationsClient;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubConflictException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubPreconditionFailedException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.query.QueryClient;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.DeviceCapabilities;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Automatic device configurations by ConfigurationsClient, and what they do to the twins of the devices they mean. */
class ConfigurationTest {
    private final Hub hub = Hubs.main();
    private final ConfigurationsClient configurations = new ConfigurationsClient(hub.owner());
    private final RegistryClient registry = new RegistryClient(hub.owner());
    private final TwinClient twins = new TwinClient(hub.owner());
    private final String run = UUID.randomUUID().toString();
    private final List<String> made = new ArrayList<>();

    /** A hub holds a hundred configurations at most. */
    @AfterEach
    void deleteWhatWasMade() throws Exception {
        Set<String> left = configurations.get(100).stream().map(Configuration::getId).collect(Collectors.toSet());
        for (String id : made) {
            if (left.contains(id)) {
                configurations.delete(id);
            }
        }
    }

    @Test
    void aCreatedConfigurationIsReturnedAsItWasGiven() throws Exception {
        Configuration given = configuration("first", 7, Map.of("properties.desired.chiller", Map.of("temperature", 66)));
        given.setLabels(new HashMap<>(Map.of("app", "chiller")));
        Configuration created = configurations.create(given);
        Configuration read = configurations.get(given.getId());
        assertEquals(given.getId(), read.getId());
        assertEquals("1.0", read.getSchemaVersion());
        assertEquals(Map.of("app", "chiller"), read.getLabels());
        assertEquals(7, read.getPriority());
        assertEquals(given.getTargetCondition(), read.getTargetCondition());
        assertEquals(Map.of("temperature", 66L), read.getContent().getDeviceContent().get("properties.desired.chiller"));
        assertFalse(read.getCreatedTimeUtc().startsWith("0001"), read.getCreatedTimeUtc());
        assertNotNull(read.getLastUpdatedTimeUtc());
        assertEquals(created.getEtag(), read.getEtag());
    }

    @Test
    void aSecondConfigurationOfTheSameIdIsAConflict() throws Exception {
        Configuration given = configuration("twice", 1, desired("n", 1));
        configurations.create(given);
        assertThrows(IotHubConflictException.class, () -> configurations.create(given));
    }

    /** The SDK replaces with If-Match: * and no quotes. */
    @Test
    void aReplacementChangesAllButTheContent() throws Exception {
        Configuration given = configuration("replaced", 1, desired("n", 1));
        Configuration created = configurations.create(given);
        String before = created.getEtag();
        created.setPriority(9);
        created.setLabels(new HashMap<>(Map.of("changed", "yes")));
        created.setTargetCondition("tags.run = 'nobody'");
        Configuration replaced = configurations.replace(created);
        Configuration read = configurations.get(given.getId());
        assertEquals(9, read.getPriority());
        assertEquals(Map.of("changed", "yes"), read.getLabels());
        assertEquals("tags.run = 'nobody'", read.getTargetCondition());
        assertNotEquals(before, replaced.getEtag());
        assertEquals(1L, read.getContent().getDeviceContent().get("properties.desired.n"));
    }

    @Test
    void configurationsAreListed() throws Exception {
        for (int n = 0; n < 3; n++) {
            configurations.create(configuration("listed-" + n, n, desired("n", n)));
        }
        Set<String> listed = configurations.get(100).stream().map(Configuration::getId).collect(Collectors.toSet());
        assertTrue(listed.containsAll(made), listed.toString());
        assertEquals(2, configurations.get(2).size());
    }

    @Test
    void anUnknownConfigurationIsNotFound() {
        String nobody = "nobody-" + run;
        assertThrows(IotHubNotFoundException.class, () -> configurations.get(nobody));
        assertThrows(IotHubNotFoundException.class, () -> configurations.delete(nobody));
        Configuration stranger = new Configuration(nobody);
        stranger.setContent(content(desired("n", 1)));
        assertThrows(IotHubNotFoundException.class, () -> configurations.replace(stranger));
    }

    @Test
    void aStaleEtagDeletesNothing() throws Exception {
        Configuration stale = configurations.create(configuration("stale", 1, desired("n", 1)));
        Configuration change = configurations.get(stale.getId());
        change.setPriority(2);
        Configuration fresh = configurations.replace(change);
        assertThrows(IotHubPreconditionFailedException.class, () -> configurations.delete(stale));
        configurations.delete(fresh);
        assertThrows(IotHubNotFoundException.class, () -> configurations.get(stale.getId()));
    }

    @Test
    void whatIsNoConfigurationIsBadFormat() {
        assertBad(new Configuration("UPPER-" + run), desired("n", 1));
        assertBad(new Configuration("empty-" + run), Map.of());
        assertBad(new Configuration("elsewhere-" + run), Map.of("tags.n", 1));
        Configuration condition = new Configuration("condition-" + run);
        condition.setTargetCondition("tags.run =");
        assertBad(condition, desired("n", 1));
        Configuration metrics = new Configuration("metrics-" + run);
        metrics.setMetrics(metrics(Map.of("broken", "SELECT deviceId FROM")));
        assertBad(metrics, desired("n", 1));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aConfigurationReachesTheDevicesItMeans(IotHubClientProtocol door) throws Exception {
        TestDevice device = tagged("wanted");
        TestDevice other = tagged("unwanted");
        DeviceClient client = device.open(door);
        Configuration configuration = configuration("reaches", 5, Map.of("properties.desired.chiller", Map.of("temperature", 66)));
        try {
            Twins.Changes changes = Twins.follow(client);
            configurations.create(configuration);
            assertEquals(Map.of("chiller", Map.of("temperature", 66L)), changes.next());
        } finally {
            client.close();
        }
        Twin twin = Await.until("configuration", () -> twins.get(device.id()),
                seen -> seen.getConfigurations() != null && seen.getConfigurations().containsKey(configuration.getId()));
        // The SDK finds no status there: it looks for "applied", and IoT Hub writes "Applied".
        assertTrue(new QueryClient(hub.owner()).queryRaw("SELECT deviceId FROM devices WHERE configurations.[["
                + configuration.getId() + "]].status = 'Applied'").next().contains(device.id()));
        assertEquals(Map.of("chiller", Map.of("temperature", 66L)), twin.getDesiredProperties());
        assertEquals(Map.of(), twins.get(other.id()).getDesiredProperties());
    }

    @Test
    void aDeviceThatComesToMeetTheConditionIsConfigured() throws Exception {
        configurations.create(configuration("later", 5, desired("interval", 10)));
        TestDevice device = tagged("unwanted");
        assertEquals(Map.of(), twins.get(device.id()).getDesiredProperties());
        tag(device, "wanted");
        awaitDesired(device, Map.of("interval", 10L));
    }

    @Test
    void theHighestPriorityWinsAndTheNextTakesOver() throws Exception {
        TestDevice device = tagged("wanted");
        configurations.create(configuration("low", 1, desired("interval", 1)));
        awaitDesired(device, Map.of("interval", 1L));
        Configuration high = configurations.create(configuration("high", 2, desired("interval", 2)));
        awaitDesired(device, Map.of("interval", 2L));
        configurations.delete(high.getId());
        awaitDesired(device, Map.of("interval", 1L));
    }

    @Test
    void metricsCountWhatTheConfigurationDid() throws Exception {
        TestDevice one = tagged("wanted");
        TestDevice two = tagged("wanted");
        Configuration given = configuration("counted", 3, desired("interval", 3));
        given.setMetrics(metrics(Map.of("configured",
                "SELECT deviceId FROM devices WHERE properties.desired.interval = 3 AND tags.run = '" + run + "'")));
        configurations.create(given);
        awaitDesired(one, Map.of("interval", 3L));
        awaitDesired(two, Map.of("interval", 3L));
        Configuration counted = Await.until("metrics", () -> configurations.get(given.getId()),
                seen -> Long.valueOf(2).equals(seen.getSystemMetrics().getResults().get("appliedCount")));
        assertEquals(2L, counted.getSystemMetrics().getResults().get("targetedCount"));
        assertEquals(2L, counted.getMetrics().getResults().get("configured"));
        assertEquals(Set.of("configured"), counted.getMetrics().getQueries().keySet());
    }

    @Test
    void moduleContentConfiguresModules() throws Exception {
        TestModule module = TestModule.on(hub);
        Twin tags = new Twin(module.device().id(), module.id());
        tags.getTags().put("run", run);
        twins.patch(tags);
        Configuration given = new Configuration("module-" + run);
        made.add(given.getId());
        ConfigurationContent content = new ConfigurationContent();
        content.setModuleContent(Map.of("properties.desired.zoom", Map.of("factor", 2)));
        given.setContent(content);
        given.setTargetCondition("FROM devices.modules WHERE moduleId = '" + module.id() + "' AND tags.run = '" + run + "'");
        given.setPriority(1);
        configurations.create(given);
        Await.until("configuration of the module",
                () -> twins.get(module.device().id(), module.id()).getDesiredProperties(),
                desired -> desired.equals(Map.of("zoom", Map.of("factor", 2L))));
        assertEquals(Map.of(), twins.get(module.device().id()).getDesiredProperties());
    }

    @Test
    void contentIsAppliedToOneEdgeDevice() throws Exception {
        Device edge = edgeDevice();
        ConfigurationContent content = new ConfigurationContent();
        content.setModulesContent(Map.of(
                "$edgeAgent", Map.of("properties.desired", Map.of(
                        "schemaVersion", "1.0", "modules", Map.of("sensor", Map.of("version", "1.0")))),
                "$edgeHub", Map.of("properties.desired", Map.of("routes", Map.of("all", "FROM /* INTO $upstream"))),
                "sensor", Map.of("properties.desired", Map.of("interval", 5))));
        configurations.applyConfigurationContentOnDevice(edge.getDeviceId(), content);
        assertEquals("1.0", twins.get(edge.getDeviceId(), "$edgeAgent").getDesiredProperties().get("schemaVersion"));
        assertEquals(Map.of("all", "FROM /* INTO $upstream"),
                twins.get(edge.getDeviceId(), "$edgeHub").getDesiredProperties().get("routes"));
        assertEquals(Map.of("interval", 5L), twins.get(edge.getDeviceId(), "sensor").getDesiredProperties());
    }

    @Test
    void contentIsNotAppliedToOtherDevices() throws Exception {
        TestDevice device = TestDevice.on(hub);
        ConfigurationContent content = new ConfigurationContent();
        content.setModulesContent(Map.of("$edgeAgent", Map.of("properties.desired", Map.of("n", 1))));
        assertThrows(IotHubBadFormatException.class,
                () -> configurations.applyConfigurationContentOnDevice(device.id(), content));
        assertThrows(IotHubNotFoundException.class,
                () -> configurations.applyConfigurationContentOnDevice("nobody-" + run, content));
    }

    @Test
    void configurationsWantRightsOverTheRegistry() throws Exception {
        ConfigurationsClient stranger = new ConfigurationsClient(hub.policy("service"));
        Configuration given = configuration("stranger", 1, desired("n", 1));
        assertThrows(IotHubUnauthorizedException.class, () -> stranger.create(given));
        assertThrows(IotHubUnauthorizedException.class, () -> stranger.get(10));
    }

    private Configuration configuration(String name, int priority, Map<String, Object> deviceContent) {
        Configuration configuration = new Configuration(name + "-" + run);
        configuration.setPriority(priority);
        configuration.setTargetCondition("tags.run = '" + run + "' AND tags.kind = 'wanted'");
        configuration.setContent(content(deviceContent));
        made.add(configuration.getId());
        return configuration;
    }

    private void assertBad(Configuration configuration, Map<String, Object> deviceContent) {
        made.add(configuration.getId());
        configuration.setContent(content(deviceContent));
        configuration.setPriority(1);
        assertThrows(IotHubBadFormatException.class, () -> configurations.create(configuration), configuration.getId());
    }

    private static ConfigurationContent content(Map<String, Object> deviceContent) {
        ConfigurationContent content = new ConfigurationContent();
        content.setDeviceContent(deviceContent);
        return content;
    }

    private static Map<String, Object> desired(String name, Object value) {
        return Map.of("properties.desired." + name, value);
    }

    private static ConfigurationMetrics metrics(Map<String, String> queries) {
        ConfigurationMetrics metrics = new ConfigurationMetrics();
        metrics.setQueries(queries);
        return metrics;
    }

    private TestDevice tagged(String kind) throws Exception {
        TestDevice device = TestDevice.on(hub);
        tag(device, kind);
        return device;
    }

    private void tag(TestDevice device, String kind) throws Exception {
        Twin tags = new Twin(device.id());
        tags.getTags().put("run", run);
        tags.getTags().put("kind", kind);
        twins.patch(tags);
    }

    private void awaitDesired(TestDevice device, Map<String, Object> expected) throws Exception {
        Await.until("desired properties " + expected, () -> twins.get(device.id()).getDesiredProperties(), expected::equals);
    }

    private Device edgeDevice() throws Exception {
        Device device = new Device("java-edge-" + UUID.randomUUID());
        DeviceCapabilities capabilities = new DeviceCapabilities();
        capabilities.setIotEdge(true);
        device.setCapabilities(capabilities);
        return registry.addDevice(device);
    }
}
