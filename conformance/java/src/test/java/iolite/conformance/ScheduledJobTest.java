package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubConflictException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.jobs.DirectMethodsJobOptions;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJob;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobStatus;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobType;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobsClient;
import com.microsoft.azure.sdk.iot.service.query.JobQueryResponse;
import com.microsoft.azure.sdk.iot.service.query.QueryClient;
import com.microsoft.azure.sdk.iot.service.query.QueryPageOptions;
import com.microsoft.azure.sdk.iot.service.query.RawQueryResponse;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Scheduled jobs: twin updates and methods on many devices, now or later, by ScheduledJobsClient. */
class ScheduledJobTest {
    private static final Set<ScheduledJobStatus> OVER = EnumSet.of(
            ScheduledJobStatus.completed, ScheduledJobStatus.failed, ScheduledJobStatus.cancelled);
    private static final long MAX_SECONDS = 60;

    private final Hub hub = Hubs.main();
    private final ScheduledJobsClient jobs = new ScheduledJobsClient(hub.owner());
    private final TwinClient twins = new TwinClient(hub.owner());
    private final String id = "java-" + UUID.randomUUID();

    @Test
    void aTwinJobUpdatesEveryDeviceOfItsCondition() throws Exception {
        List<TestDevice> chosen = devices(3);
        TestDevice bystander = TestDevice.on(hub);
        ScheduledJob made = jobs.scheduleUpdateTwin(id, among(chosen), update(), new Date(), MAX_SECONDS);
        assertEquals(id, made.getJobId());
        assertEquals(ScheduledJobType.scheduleUpdateTwin, made.getJobType());

        ScheduledJob done = end(jobs, id);
        assertEquals(ScheduledJobStatus.completed, done.getJobStatus());
        assertEquals(3, done.getJobStatistics().getDeviceCount());
        assertEquals(3, done.getJobStatistics().getSucceededCount());
        assertEquals(0, done.getJobStatistics().getFailedCount());
        assertEquals(among(chosen), done.getQueryCondition());
        assertEquals(MAX_SECONDS, done.getMaxExecutionTimeInSeconds());
        assertEquals(Map.of("season", "winter"), done.getUpdateTwin().getTags());
        assertNotNull(done.getCreatedTime());
        assertNotNull(done.getStartTime());
        assertNotNull(done.getEndTime());
        assertNull(done.getCloudToDeviceMethod());
        for (TestDevice device : chosen) {
            assertEquals(Map.of("season", "winter"), twins.get(device.id()).getTags());
            assertEquals(Map.of("interval", 5L), twins.get(device.id()).getDesiredProperties());
        }
        assertEquals(Map.of(), twins.get(bystander.id()).getTags());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aTwinJobReachesTheConnectedDevice(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            jobs.scheduleUpdateTwin(id, among(List.of(device)), update(), new Date(), MAX_SECONDS);
            assertEquals(Map.of("interval", 5L), changes.next());
        } finally {
            client.close();
        }
        end(jobs, id);
    }

    /** The SDK cannot read a device's answer in queryJobs (it fails with a null pointer), so the rows are read raw. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aMethodJobCallsEveryDeviceAndKeepsEachAnswer(IotHubClientProtocol door) throws Exception {
        List<TestDevice> chosen = devices(2);
        DeviceClient first = chosen.get(0).open(door);
        DeviceClient second = chosen.get(1).open(door);
        try {
            Methods.answer(first, (name, payload) -> new DirectMethodResponse(200, Map.of("name", name, "payload", payload)));
            Methods.answer(second, (name, payload) -> new DirectMethodResponse(418, "teapot"));
            ScheduledJob made = jobs.scheduleDirectMethod(id, among(chosen), "reboot", new Date(), method(Map.of("in", 5)));
            assertEquals(ScheduledJobType.scheduleDeviceMethod, made.getJobType());
            ScheduledJob done = end(jobs, id);
            assertEquals(ScheduledJobStatus.completed, done.getJobStatus());
            assertEquals(2, done.getJobStatistics().getSucceededCount());
            assertEquals("reboot", JsonParser.parseString(done.getCloudToDeviceMethod()).getAsJsonObject()
                    .get("methodName").getAsString());
        } finally {
            first.close();
            second.close();
        }
        Map<String, JsonObject> rows = rows(id);
        assertEquals(JsonParser.parseString("{\"status\":200,\"payload\":{\"name\":\"reboot\",\"payload\":{\"in\":5}}}"),
                answer(rows.get(chosen.get(0).id())));
        assertEquals(JsonParser.parseString("{\"status\":418,\"payload\":\"teapot\"}"), answer(rows.get(chosen.get(1).id())));
        assertEquals("completed", rows.get(chosen.get(0).id()).get("status").getAsString());
    }

    @Test
    void anOfflineDeviceFailsAndTheOthersAreDone() throws Exception {
        List<TestDevice> chosen = devices(2);
        DeviceClient online = chosen.get(0).open(IotHubClientProtocol.AMQPS);
        try {
            Methods.echo(online);
            jobs.scheduleDirectMethod(id, among(chosen), "reboot", new Date(), method(null));
            ScheduledJob done = end(jobs, id);
            assertEquals(2, done.getJobStatistics().getDeviceCount());
            assertEquals(1, done.getJobStatistics().getSucceededCount());
            assertEquals(1, done.getJobStatistics().getFailedCount());
        } finally {
            online.close();
        }
        Map<String, JsonObject> rows = rows(id);
        assertEquals("completed", rows.get(chosen.get(0).id()).get("status").getAsString());
        JsonObject failed = rows.get(chosen.get(1).id());
        assertEquals("failed", failed.get("status").getAsString());
        assertEquals("DeviceNotOnline", failed.getAsJsonObject("error").get("code").getAsString());
        assertFalse(failed.getAsJsonObject("error").get("description").getAsString().isEmpty());
    }

    @Test
    void theRowsOfATwinJobAreJobsOfOneDeviceEach() throws Exception {
        List<TestDevice> chosen = devices(3);
        jobs.scheduleUpdateTwin(id, among(chosen), update(), new Date(), MAX_SECONDS);
        end(jobs, id);
        QueryPageOptions page = QueryPageOptions.builder().pageSize(2).build();
        JobQueryResponse response =
                jobs.query("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '" + id + "'", page);
        Set<String> found = new HashSet<>();
        while (response.hasNext()) {
            ScheduledJob row = response.next(page);
            assertEquals(id, row.getJobId());
            assertEquals(ScheduledJobType.scheduleUpdateTwin, row.getJobType());
            assertEquals(ScheduledJobStatus.completed, row.getJobStatus());
            assertNotNull(row.getCreatedTime());
            assertNotNull(row.getStartTime());
            assertNotNull(row.getEndTime());
            assertTrue(found.add(row.getDeviceId()), "a device came twice");
        }
        assertEquals(chosen.stream().map(TestDevice::id).collect(Collectors.toSet()), found);
    }

    @Test
    void aJobWithNoDevicesIsDoneAtOnce() throws Exception {
        jobs.scheduleUpdateTwin(id, "tags.season = 'never'", update(), new Date(), MAX_SECONDS);
        assertEquals(0, end(jobs, id).getJobStatistics().getDeviceCount());
    }

    @Test
    void aFutureJobWaitsForItsTime() throws Exception {
        Hub moved = Hubs.moved();
        TestDevice device = TestDevice.on(moved);
        ScheduledJobsClient later = new ScheduledJobsClient(moved.owner());
        Instant start = moved.now().plusSeconds(60);
        ScheduledJob made = later.scheduleUpdateTwin(id, among(List.of(device)), update(), Date.from(start), MAX_SECONDS);
        assertTrue(Duration.between(start, made.getStartTime().toInstant()).abs().toMillis() < 1000, made.toString());
        assertEquals(ScheduledJobStatus.scheduled, later.get(id).getJobStatus());
        moved.advance("50s");
        assertEquals(ScheduledJobStatus.scheduled, later.get(id).getJobStatus());
        assertEquals(Map.of(), new TwinClient(moved.owner()).get(device.id()).getTags());
        moved.advance("11s");
        assertEquals(ScheduledJobStatus.completed, end(later, id).getJobStatus());
        assertEquals(Map.of("season", "winter"), new TwinClient(moved.owner()).get(device.id()).getTags());
    }

    @Test
    void aCancelledJobNeverRuns() throws Exception {
        Hub moved = Hubs.moved();
        TestDevice device = TestDevice.on(moved);
        ScheduledJobsClient later = new ScheduledJobsClient(moved.owner());
        later.scheduleUpdateTwin(id, among(List.of(device)), update(), Date.from(moved.now().plusSeconds(30)), MAX_SECONDS);
        assertEquals(ScheduledJobStatus.cancelled, later.cancel(id).getJobStatus());
        moved.advance("31s");
        assertEquals(ScheduledJobStatus.cancelled, later.get(id).getJobStatus());
        assertEquals(Map.of(), new TwinClient(moved.owner()).get(device.id()).getTags());
    }

    @Test
    void aJobThatTakesTooLongFailsItsLastDevices() throws Exception {
        Hub moved = Hubs.moved();
        TestDevice device = TestDevice.on(moved);
        ScheduledJobsClient caller = new ScheduledJobsClient(moved.owner());
        caller.scheduleDirectMethod(id, among(List.of(device)), "reboot", Date.from(moved.now()), DirectMethodsJobOptions.builder()
                .methodConnectTimeoutSeconds(120).methodResponseTimeoutSeconds(120).maxExecutionTimeSeconds(30).build());
        Await.until("start of the job", () -> caller.get(id).getJobStatus(), ScheduledJobStatus.running::equals);
        moved.advance("31s");
        ScheduledJob done = end(caller, id);
        assertEquals(0, done.getJobStatistics().getSucceededCount());
        assertEquals(1, done.getJobStatistics().getFailedCount());
    }

    /** 405 has no exception of its own in the SDK. */
    @Test
    void aFinishedJobCannotBeCancelled() throws Exception {
        jobs.scheduleUpdateTwin(id, among(devices(1)), update(), new Date(), MAX_SECONDS);
        end(jobs, id);
        IotHubException refusal = assertThrows(IotHubException.class, () -> jobs.cancel(id));
        assertTrue(refusal.getMessage().contains("OperationNotAllowedInCurrentState"), refusal.getMessage());
    }

    @Test
    void aSecondJobOfTheSameIdIsAConflict() throws Exception {
        jobs.scheduleUpdateTwin(id, among(devices(1)), update(), new Date(), MAX_SECONDS);
        assertThrows(IotHubConflictException.class,
                () -> jobs.scheduleUpdateTwin(id, among(devices(1)), update(), new Date(), MAX_SECONDS));
        end(jobs, id);
    }

    @Test
    void anUnknownJobIsUnknownAndCannotBeCancelled() throws Exception {
        ScheduledJob unknown = jobs.get(id);
        assertEquals(ScheduledJobStatus.unknown, unknown.getJobStatus());
        assertEquals(ScheduledJobType.unknown, unknown.getJobType());
        assertThrows(IotHubNotFoundException.class, () -> jobs.cancel(id));
    }

    @ParameterizedTest
    @ValueSource(strings = {"tags.season =", "NO_SUCH(tags.season)", "SELECT * FROM devices"})
    void aConditionThatIsNoneIsBadFormat(String condition) {
        assertThrows(IotHubBadFormatException.class,
                () -> jobs.scheduleUpdateTwin(id, condition, update(), new Date(), MAX_SECONDS));
    }

    @Test
    void aStartMoreThanAWeekAheadIsBadFormat() throws Exception {
        Date tooLate = Date.from(hub.now().plus(Duration.ofHours(169)));
        assertThrows(IotHubBadFormatException.class,
                () -> jobs.scheduleUpdateTwin(id, among(devices(1)), update(), tooLate, MAX_SECONDS));
    }

    @Test
    void aForbiddenUpdateIsBadFormat() throws Exception {
        Twin forbidden = new Twin();
        forbidden.getTags().put("with.dot", 1);
        assertThrows(IotHubBadFormatException.class,
                () -> jobs.scheduleUpdateTwin(id, among(devices(1)), forbidden, new Date(), MAX_SECONDS));
    }

    @Test
    void jobsAreListedByTypeAndStatusInPages() throws Exception {
        Set<String> made = new HashSet<>();
        for (int n = 0; n < 3; n++) {
            made.add(id + "-" + n);
            jobs.scheduleUpdateTwin(id + "-" + n, among(devices(1)), update(), new Date(), MAX_SECONDS);
            end(jobs, id + "-" + n);
        }
        assertEquals(made, listed(ScheduledJobType.scheduleUpdateTwin, ScheduledJobStatus.completed, made));
        assertEquals(made, listed(null, null, made));
        assertEquals(Set.of(), listed(ScheduledJobType.scheduleDeviceMethod, ScheduledJobStatus.completed, made));
        assertEquals(Set.of(), listed(ScheduledJobType.scheduleUpdateTwin, ScheduledJobStatus.cancelled, made));
    }

    @Test
    void jobsWantServiceConnect() throws Exception {
        ScheduledJobsClient stranger = new ScheduledJobsClient(hub.policy("registryReadWrite"));
        assertThrows(IotHubUnauthorizedException.class,
                () -> stranger.scheduleUpdateTwin(id, among(devices(1)), update(), new Date(), MAX_SECONDS));
        assertThrows(IotHubUnauthorizedException.class, () -> stranger.get(id));
    }

    /** The ids of wanted that are listed. */
    private Set<String> listed(ScheduledJobType type, ScheduledJobStatus status, Set<String> wanted) throws Exception {
        QueryPageOptions page = QueryPageOptions.builder().pageSize(2).build();
        JobQueryResponse response = jobs.query(type, status, page);
        Set<String> found = new HashSet<>();
        while (response.hasNext()) {
            String job = response.next(page).getJobId();
            assertTrue(found.add(job), "a job came twice");
        }
        found.retainAll(wanted);
        return found;
    }

    private Map<String, JsonObject> rows(String jobId) throws Exception {
        RawQueryResponse response = new QueryClient(hub.owner())
                .queryRaw("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '" + jobId + "'");
        Map<String, JsonObject> rows = new HashMap<>();
        while (response.hasNext()) {
            JsonObject row = JsonParser.parseString(response.next()).getAsJsonObject();
            rows.put(row.get("deviceId").getAsString(), row);
        }
        return rows;
    }

    private static JsonObject answer(JsonObject row) {
        return row.getAsJsonObject("outcome").getAsJsonObject("deviceMethodResponse");
    }

    private static ScheduledJob end(ScheduledJobsClient jobs, String id) throws Exception {
        return Await.until("end of job " + id, () -> jobs.get(id), job -> OVER.contains(job.getJobStatus()));
    }

    private List<TestDevice> devices(int count) throws Exception {
        TestDevice[] devices = new TestDevice[count];
        for (int n = 0; n < count; n++) {
            devices[n] = TestDevice.on(hub);
        }
        return List.of(devices);
    }

    private static String among(List<TestDevice> devices) {
        return devices.stream().map(device -> "'" + device.id() + "'").collect(Collectors.joining(",", "deviceId IN [", "]"));
    }

    private static Twin update() {
        Twin update = new Twin();
        update.getTags().put("season", "winter");
        update.getDesiredProperties().put("interval", 5);
        return update;
    }

    private static DirectMethodsJobOptions method(Object payload) {
        return DirectMethodsJobOptions.builder()
                .payload(payload)
                .methodConnectTimeoutSeconds(0)
                .methodResponseTimeoutSeconds(30)
                .maxExecutionTimeSeconds((int) MAX_SECONDS)
                .build();
    }
}
