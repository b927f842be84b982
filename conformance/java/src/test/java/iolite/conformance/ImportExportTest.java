package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.registry.RegistryJob;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Jobs that write the registry into a blob container or read it from one, by RegistryClient. */
class ImportExportTest {
    private static final Set<RegistryJob.JobStatus> OVER = EnumSet.of(
            RegistryJob.JobStatus.COMPLETED, RegistryJob.JobStatus.FAILED, RegistryJob.JobStatus.CANCELLED);

    private final Hub hub = Hubs.main();
    private final RegistryClient registry = new RegistryClient(hub.owner());
    private final TwinClient twins = new TwinClient(hub.owner());
    private final String id = "java-" + UUID.randomUUID();
    private Container container;

    @BeforeEach
    void open() throws Exception {
        container = new Container();
    }

    @AfterEach
    void close() {
        container.close();
    }

    @Test
    void anExportHoldsEveryDeviceWithItsKeysAndTwin() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin tags = new Twin(device.id());
        tags.getTags().put("exported", true);
        twins.patch(tags);
        RegistryJob made = registry.exportDevices(container.uri(), false);
        assertEquals(RegistryJob.JobType.EXPORT, made.getType());
        RegistryJob done = end(made);
        assertEquals(RegistryJob.JobStatus.COMPLETED, done.getStatus(), done.getFailureReason());
        assertEquals(100, done.getProgress());
        assertNotNull(done.getStartTimeUtc());
        assertNotNull(done.getEndTimeUtc());

        JsonObject line = line(device.id());
        assertEquals(device.key(), key(line));
        assertEquals("enabled", line.get("status").getAsString());
        assertEquals("{\"exported\":true}", line.get("tags").toString());
    }

    @Test
    void anExportLeavesKeysOutWhenAsked() throws Exception {
        TestDevice device = TestDevice.on(hub);
        RegistryJob done = end(registry.exportDevices(RegistryJob.createForExportJob(container.uri(), true)));
        assertEquals(RegistryJob.JobStatus.COMPLETED, done.getStatus(), done.getFailureReason());
        assertTrue(done.getExcludeKeysInExport());
        assertFalse(container.lines("devices.txt").toString().contains(device.key()), "a key was exported");
        assertEquals(device.id(), line(device.id()).get("id").getAsString());
    }

    @Test
    void anImportCreatesUpdatesAndDeletes() throws Exception {
        TestDevice updated = TestDevice.on(hub);
        TestDevice deleted = TestDevice.on(hub);
        container.put("devices.txt",
                "{\"id\":\"" + id + "\",\"importMode\":\"createOrUpdate\",\"status\":\"enabled\",\"authentication\":{\"type\":\"sas\"},"
                        + "\"tags\":{\"imported\":true},\"properties\":{\"desired\":{\"interval\":5}}}",
                "{\"id\":\"" + updated.id() + "\",\"importMode\":\"update\",\"status\":\"disabled\",\"authentication\":{\"type\":\"sas\"}}",
                "{\"id\":\"" + deleted.id() + "\",\"importMode\":\"delete\"}");
        RegistryJob done = end(registry.importDevices(container.uri(), container.uri()));
        assertEquals(RegistryJob.JobType.IMPORT, done.getType());
        assertEquals(RegistryJob.JobStatus.COMPLETED, done.getStatus(), done.getFailureReason());
        assertEquals(List.of(), container.lines("importErrors.log"));
        assertEquals(Map.of("imported", true), twins.get(id).getTags());
        assertEquals(Map.of("interval", 5L), twins.get(id).getDesiredProperties());
        assertNotNull(registry.getDevice(id).getPrimaryKey());
        assertEquals(DeviceStatus.Disabled, registry.getDevice(updated.id()).getStatus());
        assertThrows(IotHubNotFoundException.class, () -> registry.getDevice(deleted.id()));
    }

    @Test
    void aBadLineIsReportedAndTheOthersAreImported() throws Exception {
        TestDevice existing = TestDevice.on(hub);
        container.put("devices.txt",
                "{\"id\":\"" + existing.id() + "\",\"importMode\":\"create\",\"authentication\":{\"type\":\"sas\"}}",
                "{\"id\":\"" + id + "\",\"importMode\":\"create\",\"authentication\":{\"type\":\"sas\"}}");
        RegistryJob done = end(registry.importDevices(RegistryJob.createForImportJob(container.uri(), container.uri())));
        assertEquals(RegistryJob.JobStatus.COMPLETED, done.getStatus(), done.getFailureReason());
        assertEquals(id, registry.getDevice(id).getDeviceId());
        List<String> errors = container.lines("importErrors.log");
        assertEquals(1, errors.size(), errors.toString());
        assertTrue(errors.get(0).contains(existing.id()) && errors.get(0).contains("409001"), errors.toString());
    }

    @Test
    void aContainerThatRefusesFailsTheJob() throws Exception {
        RegistryJob done = end(registry.exportDevices(container.uri().replace("c2VjcmV0", "d3Jvbmc"), true));
        assertEquals(RegistryJob.JobStatus.FAILED, done.getStatus());
        assertFalse(done.getFailureReason().isEmpty());
    }

    @Test
    void whatIsNoContainerIsBadFormat() {
        assertThrows(IotHubBadFormatException.class, () -> registry.exportDevices("no uri at all", true));
        assertThrows(IotHubBadFormatException.class, () -> registry.importDevices("ftp://example.com/c", container.uri()));
    }

    @Test
    void anUnknownJobIsNotFound() {
        assertThrows(IotHubNotFoundException.class, () -> registry.getJob("no-such-job"));
    }

    @Test
    void jobsWantRightsOverTheRegistry() {
        RegistryClient service = new RegistryClient(hub.policy("service"));
        assertThrows(IotHubUnauthorizedException.class, () -> service.exportDevices(container.uri(), true));
    }

    private RegistryJob end(RegistryJob job) throws Exception {
        return Await.until("end of the job", () -> registry.getJob(job.getJobId()), seen -> OVER.contains(seen.getStatus()));
    }

    private JsonObject line(String deviceId) {
        return container.lines("devices.txt").stream()
                .map(line -> JsonParser.parseString(line).getAsJsonObject())
                .filter(line -> line.get("id").getAsString().equals(deviceId) && !isModule(line))
                .findFirst().orElseThrow();
    }

    private static boolean isModule(JsonObject line) {
        return line.has("moduleId") && !line.get("moduleId").isJsonNull();
    }

    private static String key(JsonObject line) {
        return line.getAsJsonObject("authentication").getAsJsonObject("symmetricKey").get("primaryKey").getAsString();
    }
}
