package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.query.QueryClient;
import com.microsoft.azure.sdk.iot.service.query.QueryPageOptions;
import com.microsoft.azure.sdk.iot.service.query.RawQueryResponse;
import com.microsoft.azure.sdk.iot.service.query.TwinQueryResponse;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import com.microsoft.azure.sdk.iot.service.twin.TwinStatus;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The query language through QueryClient: twins and raw rows, in pages. The suite's devices are told from others by tags.run. */
class QueryTest {
    private static final int DEVICES = 24;
    private static final String RUN = UUID.randomUUID().toString();
    private static final String OURS = " WHERE tags.run = '" + RUN + "'";

    private static final List<TestDevice> FLEET = new ArrayList<>();

    private final Hub hub = Hubs.main();
    private final QueryClient queries = new QueryClient(hub.owner());

    /** Device n has tags.n = n, tags.floor = n modulo 3, and devices 0, 2 and 4 report a temperature of n + 0.5. */
    @BeforeAll
    static void plant() throws Exception {
        Hub hub = Hubs.main();
        TwinClient twins = new TwinClient(hub.owner());
        for (int n = 0; n < DEVICES; n++) {
            TestDevice device = TestDevice.on(hub);
            FLEET.add(device);
            Twin twin = new Twin(device.id());
            twin.getTags().put("run", RUN);
            twin.getTags().put("n", n);
            twin.getTags().put("floor", n % 3);
            twin.getTags().put("site", Map.of("name", "Room " + n, "open", n % 2 == 0));
            if (n == 7) {
                twin.getTags().put("only", List.of("here", 7));
            }
            twin.getDesiredProperties().put("interval", n * 10);
            twins.patch(twin);
        }
        for (int n = 0; n < 6; n += 2) {
            DeviceClient client = FLEET.get(n).open(IotHubClientProtocol.MQTT);
            Twins.follow(client);
            Twins.report(client, Twins.of("temperature", n + 0.5));
            client.close();
        }
        TestModule module = TestModule.on(FLEET.get(3), "camera");
        Twin twin = new Twin(module.device().id(), module.id());
        twin.getTags().put("run", RUN);
        twins.patch(twin);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 5, 8, 23, 24, 25, 100})
    void everyTwinComesOnceWhateverThePageSize(int pageSize) throws Exception {
        QueryPageOptions page = QueryPageOptions.builder().pageSize(pageSize).build();
        TwinQueryResponse response = queries.queryTwins("SELECT * FROM devices" + OURS, page);
        List<String> found = new ArrayList<>();
        while (response.hasNext()) {
            found.add(response.next(page).getDeviceId());
        }
        assertEquals(DEVICES, found.size());
        assertEquals(ids(FLEET), new HashSet<>(found));
    }

    @Test
    void aContinuationTokenGoesOnWhereItsPageEnded() throws Exception {
        String query = "SELECT * FROM devices" + OURS;
        TwinQueryResponse first = queries.queryTwins(query, QueryPageOptions.builder().pageSize(10).build());
        assertNotNull(first.getContinuationToken());
        Set<String> found = new HashSet<>();
        for (int n = 0; n < 10; n++) {
            found.add(first.next().getDeviceId());
        }
        TwinQueryResponse second = queries.queryTwins(query, QueryPageOptions.builder()
                .pageSize(100).continuationToken(first.getContinuationToken()).build());
        assertNull(second.getContinuationToken());
        while (second.hasNext()) {
            assertTrue(found.add(second.next().getDeviceId()), "a twin came twice");
        }
        assertEquals(ids(FLEET), found);
    }

    @Test
    void aForgedContinuationTokenIsBadFormat() {
        assertThrows(IotHubBadFormatException.class, () -> queries.queryTwins("SELECT * FROM devices",
                QueryPageOptions.builder().pageSize(10).continuationToken("no token of ours").build()));
    }

    @Test
    void aQueryThatFindsNothingHasNoNext() throws Exception {
        assertFalse(queries.queryTwins("SELECT * FROM devices WHERE tags.run = 'nobody'").hasNext());
        assertFalse(queries.queryRaw("SELECT deviceId FROM devices WHERE tags.run = 'nobody'").hasNext());
    }

    @Test
    void aTwinThatIsFoundIsTheTwinThatIsRead() throws Exception {
        TestDevice device = FLEET.get(4);
        Twin found = queries.queryTwins("SELECT * FROM devices WHERE deviceId = '" + device.id() + "'").next();
        Twin read = new TwinClient(hub.owner()).get(device.id());
        assertEquals(read.getTags(), found.getTags());
        assertEquals(read.getDesiredProperties(), found.getDesiredProperties());
        assertEquals(read.getReportedProperties(), found.getReportedProperties());
        assertEquals(Map.of("temperature", 4.5), found.getReportedProperties());
        assertEquals(read.getDesiredProperties().getVersion(), found.getDesiredProperties().getVersion());
        assertEquals(read.getDesiredProperties().getTwinMetadata("interval").getLastUpdated(),
                found.getDesiredProperties().getTwinMetadata("interval").getLastUpdated());
        assertEquals(read.getETag(), found.getETag());
        assertEquals(read.getVersion(), found.getVersion());
        assertEquals(TwinStatus.ENABLED, found.getStatus());
        assertEquals("DISCONNECTED", found.getConnectionState());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
        "tags.n = 5                                             | 5",
        "tags.n != 5 AND tags.n < 7                             | 0 1 2 3 4 6",
        "tags.n <> 5 AND tags.n <= 6                            | 0 1 2 3 4 6",
        "tags.n > 20                                            | 21 22 23",
        "tags.n >= 20 AND NOT tags.n = 22                       | 20 21 23",
        "tags.n = 1 OR tags.n = 2 AND tags.floor = 2            | 1 2",
        "(tags.n = 1 OR tags.n = 2) AND tags.floor = 2          | 2",
        "tags.n IN [1, 3, 99]                                   | 1 3",
        "tags.n NIN [0, 1, 2, 3] AND tags.n < 6                 | 4 5",
        "tags.site.name = 'Room 9'                              | 9",
        "tags.site.name = \"Room 9\"                            | 9",
        "tags.site.open = true AND tags.n < 5                   | 0 2 4",
        "tags.site.open = false AND tags.n < 4                  | 1 3",
        "properties.desired.interval = 50                       | 5",
        "properties.reported.temperature > 1                    | 2 4",
        "IS_DEFINED(properties.reported.temperature)            | 0 2 4",
        "NOT IS_DEFINED(properties.reported.temperature) AND tags.n < 4 | 1 3",
        "IS_NUMBER(tags.n) AND IS_STRING(tags.site.name) AND IS_BOOL(tags.site.open) AND IS_OBJECT(tags.site) AND tags.n = 3 | 3",
        "STARTSWITH(tags.site.name, 'Room 2')                   | 2 20 21 22 23",
        "ENDSWITH(tags.site.name, ' 3')                         | 3",
        "CONTAINS(tags.site.name, 'oom 1') AND tags.n < 12      | 1 10 11",
        "ARRAY_CONTAINS(tags.only, 'here')                      | 7",
        "LOWER(tags.site.name) = 'room 6'                       | 6",
        "UPPER(tags.site.name) = 'ROOM 6'                       | 6",
        "LENGTH(tags.site.name) = 6 AND tags.n < 2              | 0 1",
        "SUBSTRING(tags.site.name, 5) = '8'                     | 8",
        "tags.n * 2 + 1 = 11                                    | 5",
        "tags.n % 10 = 3                                        | 3 13 23",
        "ABS(tags.n - 10) = 2                                   | 8 12",
        "FLOOR(properties.reported.temperature) = 4             | 4",
        "properties.reported.never = 1                          | ``",
        "devices.tags.n = 6                                     | 6",
        "[[tags]].[[n]] = 6                                     | 6",
        "status = 'enabled' AND tags.n = 8                      | 8",
        "connectionState = 'Disconnected' AND tags.n = 8        | 8",
        "authenticationType = 'sas' AND tags.n = 8              | 8",
        "capabilities.iotEdge = false AND tags.n = 8            | 8",
    })
    void conditionsChooseTheirDevices(String condition, String expected) throws Exception {
        Set<Integer> found = new TreeSet<>();
        for (JsonObject row : rows("SELECT tags FROM devices" + OURS + " AND (" + condition.trim() + ")")) {
            found.add(row.getAsJsonObject("tags").get("n").getAsInt());
        }
        Set<Integer> wanted = expected == null || expected.isBlank() ? Set.of() : List.of(expected.trim().split(" ")).stream()
                .map(Integer::valueOf).collect(Collectors.toSet());
        assertEquals(wanted, found);
    }

    @Test
    void aSelectListGivesItsFieldsAndNames() throws Exception {
        List<JsonObject> rows = rows("SELECT deviceId, tags.site.name AS room, properties.desired.interval FROM devices"
                + OURS + " AND tags.n = 11");
        assertEquals(1, rows.size());
        assertEquals(FLEET.get(11).id(), rows.get(0).get("deviceId").getAsString());
        assertEquals("Room 11", rows.get(0).get("room").getAsString());
        assertEquals(110, rows.get(0).get("interval").getAsInt());
        assertEquals(3, rows.get(0).size(), rows.get(0).toString());
    }

    @Test
    void rawRowsComeInPagesToo() throws Exception {
        QueryPageOptions page = QueryPageOptions.builder().pageSize(7).build();
        RawQueryResponse response = queries.queryRaw("SELECT deviceId FROM devices" + OURS, page);
        Set<String> found = new HashSet<>();
        while (response.hasNext()) {
            assertTrue(found.add(object(response.next(page)).get("deviceId").getAsString()), "a row came twice");
        }
        assertEquals(ids(FLEET), found);
    }

    @Test
    void aggregatesAreOneRow() throws Exception {
        assertEquals(JsonParser.parseString("{\"devices\":24,\"least\":0,\"most\":23,\"sum\":276,\"mean\":11.5}"),
                rows("SELECT COUNT() AS devices, MIN(tags.n) AS least, MAX(tags.n) AS most, SUM(tags.n) AS sum,"
                        + " AVG(tags.n) AS mean FROM devices" + OURS).get(0));
    }

    @Test
    void groupsHaveARowEach() throws Exception {
        Map<Integer, Integer> counts = new HashMap<>();
        for (JsonObject row : rows("SELECT tags.floor AS floor, COUNT() AS devices FROM devices" + OURS + " AND tags.n < 10"
                + " GROUP BY tags.floor")) {
            counts.put(row.get("floor").getAsInt(), row.get("devices").getAsInt());
        }
        assertEquals(Map.of(0, 4, 1, 3, 2, 3), counts);
    }

    @Test
    void topLimitsTheAnswer() throws Exception {
        assertEquals(3, rows("SELECT TOP 3 deviceId FROM devices" + OURS).size());
        TwinQueryResponse twins = queries.queryTwins("SELECT TOP 3 * FROM devices" + OURS);
        for (int n = 0; n < 3; n++) {
            twins.next();
        }
        assertFalse(twins.hasNext());
    }

    @Test
    void keywordsKnowNoCaseAndNamesDo() throws Exception {
        assertEquals(1, rows("select deviceId from devices where tags.run = '" + RUN + "' and tags.n = 1").size());
        assertEquals(0, rows("SELECT deviceId FROM devices WHERE tags.Run = '" + RUN + "'").size());
    }

    @Test
    void modulesAreQueriedAsTwins() throws Exception {
        TestDevice device = FLEET.get(3);
        Twin module = queries.queryTwins("SELECT * FROM devices.modules" + OURS).next();
        assertEquals(device.id(), module.getDeviceId());
        assertEquals("camera", module.getModuleId());
        assertEquals(1, rows("SELECT moduleId FROM devices.modules WHERE deviceId = '" + device.id() + "'").size());
        assertEquals(1, rows("SELECT moduleId FROM devices.modules WHERE devices.deviceId = '" + device.id() + "'").size());
        assertEquals("camera", rows("SELECT moduleId FROM devices.modules WHERE moduleId = 'camera' AND tags.run = '" + RUN + "'")
                .get(0).get("moduleId").getAsString());
    }

    @Test
    void aDisabledDeviceIsFoundByItsStatus() throws Exception {
        TestDevice disabled = TestDevice.on(hub, DeviceStatus.Disabled);
        assertEquals(disabled.id(), rows("SELECT deviceId FROM devices WHERE status = 'disabled' AND deviceId = '" + disabled.id() + "'")
                .get(0).get("deviceId").getAsString());
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "SELECT * FROM",
        "SELECT * FROM nowhere",
        "SELECT * FROM devices WHERE",
        "SELECT * FROM devices WHERE tags.n = ",
        "SELECT * FROM devices WHERE tags.n = 'open",
        "SELECT * FROM devices WHERE (tags.n = 1",
        "SELECT * FROM devices WHERE NO_SUCH(tags.n)",
        "SELECT * FROM devices WHERE tags.n IN [1, 2",
        "SELECT * FROM devices; DROP TABLE devices",
    })
    void whatIsNoQueryIsBadFormat(String query) {
        IotHubException refusal = assertThrows(IotHubBadFormatException.class, () -> queries.queryRaw(query));
        assertTrue(refusal.getMessage().contains("ErrorCode:ArgumentInvalid;"), refusal.getMessage());
        assertTrue(refusal.getMessage().matches("(?s).*line \\d+, column \\d+.*"), refusal.getMessage());
    }

    @Test
    void aQueryWantsServiceConnect() throws Exception {
        QueryClient stranger = new QueryClient(hub.policy("registryReadWrite"));
        assertThrows(IotHubUnauthorizedException.class, () -> stranger.queryTwins("SELECT * FROM devices"));
        assertNotEquals(0, new QueryClient(hub.policy("service")).queryTwins("SELECT * FROM devices" + OURS).next().getVersion());
    }

    private List<JsonObject> rows(String query) throws Exception {
        RawQueryResponse response = queries.queryRaw(query);
        List<JsonObject> rows = new ArrayList<>();
        while (response.hasNext()) {
            rows.add(object(response.next()));
        }
        return rows;
    }

    private static JsonObject object(String json) {
        JsonElement element = JsonParser.parseString(json);
        return element.getAsJsonObject();
    }

    private static Set<String> ids(List<TestDevice> devices) {
        return devices.stream().map(TestDevice::id).collect(Collectors.toSet());
    }
}
