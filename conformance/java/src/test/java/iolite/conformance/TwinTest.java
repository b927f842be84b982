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
import com.microsoft.azure.sdk.iot.device.IotHubStatusCode;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.transport.IotHubConnectionStatus;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubPreconditionFailedException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import com.microsoft.azure.sdk.iot.service.messaging.MessagingClient;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import com.microsoft.azure.sdk.iot.service.twin.TwinMetadata;
import com.microsoft.azure.sdk.iot.service.twin.TwinStatus;
import java.time.Instant;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Device twins: what the device reports TwinClient reads, and what TwinClient desires reaches the device. HTTPS has no twins. */
class TwinTest {
    private static final int CHANGES = 25;
    private static final long LARGEST = (1L << 52) - 1;

    private final Hub hub = Hubs.main();
    private final TwinClient twins = new TwinClient(hub.owner());

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aNewTwinIsEmpty(IotHubClientProtocol door) throws Exception {
        DeviceClient client = TestDevice.on(hub).open(door);
        try {
            Twins.follow(client);
            com.microsoft.azure.sdk.iot.device.twin.Twin twin = Twins.get(client);
            assertEquals(Map.of(), twin.getDesiredProperties());
            assertEquals(Map.of(), twin.getReportedProperties());
            assertEquals(1, twin.getDesiredProperties().getVersion());
            assertEquals(1, twin.getReportedProperties().getVersion());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void reportedPropertiesAreMergedAndCounted(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.follow(client);
            assertEquals(2, Twins.report(client, everyKind()));
            TwinCollection more = Twins.of("more", true);
            more.put("nested", Twins.of("added", "too"));
            assertEquals(3, Twins.report(client, more));

            Map<String, Object> expected = new HashMap<>(everyKind());
            expected.put("more", true);
            expected.put("nested", Map.of("deep", Map.of("er", "text"), "added", "too"));
            assertEquals(expected, Twins.get(client).getReportedProperties());
            assertEquals(3, Twins.get(client).getReportedProperties().getVersion());
            Twin seen = twins.get(device.id());
            assertEquals(expected, seen.getReportedProperties());
            assertEquals(3, seen.getReportedProperties().getVersion());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void nullRemovesAReportedPropertyAtAnyDepth(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.follow(client);
            TwinCollection given = Twins.of("gone", 1);
            given.put("stays", Map.of("gone", 2, "stays", 3));
            Twins.report(client, given);
            TwinCollection patch = Twins.of("gone", null);
            patch.put("absent", null);
            patch.put("stays", new HashMap<>(Collections.singletonMap("gone", null)));
            assertEquals(3, Twins.report(client, patch));

            Map<String, Object> left = Map.of("stays", Map.of("stays", 3L));
            assertEquals(left, Twins.get(client).getReportedProperties());
            assertEquals(left, twins.get(device.id()).getReportedProperties());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aStaleVersionOfReportedPropertiesIsAFailedPrecondition(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.follow(client);
            assertEquals(2, Twins.report(client, Twins.of("n", 1)));
            TwinCollection fresh = Twins.of("n", 2);
            fresh.setVersion(2);
            assertEquals(3, Twins.report(client, fresh));
            TwinCollection stale = Twins.of("n", 3);
            stale.setVersion(2);
            assertRefused(IotHubStatusCode.PRECONDITION_FAILED, client, stale);
            assertEquals(Map.of("n", 2L), Twins.get(client).getReportedProperties());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void whatNoTwinMayHoldIsBadFormatAndChangesNothing(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.follow(client);
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("with.dot", 1));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("with space", 1));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("with#", 1));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("$dollar", 1));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("n".repeat(1025), 1));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("long", "x".repeat(4097)));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("large", LARGEST + 1));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, Twins.of("list", Collections.singletonList(null)));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, nested(11));
            assertRefused(IotHubStatusCode.BAD_FORMAT, client, texts(9, 4000));
            assertEquals(1, Twins.get(client).getReportedProperties().getVersion());

            assertEquals(2, Twins.report(client, nested(10)), "as deep as a twin may be");
            assertEquals(3, Twins.report(client, texts(8, 4000)), "nearly as large as reported properties may be");
            assertEquals(4, Twins.report(client, Twins.of("large", LARGEST)));
            assertEquals(LARGEST, Twins.get(client).getReportedProperties().get("large"));
            assertEquals(LARGEST, twins.get(device.id()).getReportedProperties().get("large"));
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void everyDesiredChangeArrivesInOrderWithItsVersion(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            for (int n = 0; n < CHANGES; n++) {
                desire(device, Map.of("n", n));
            }
            List<TwinCollection> arrived = changes.next(CHANGES);
            for (int n = 0; n < CHANGES; n++) {
                assertEquals(Map.of("n", (long) n), arrived.get(n));
                assertEquals(n + 2, arrived.get(n).getVersion());
            }
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aDesiredChangeIsToldAsThePatchItWas(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        desire(device, Map.of("kept", "here", "gone", 1, "nested", Map.of("gone", 2, "stays", 3)));
        DeviceClient client = device.open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            Map<String, Object> patch = new HashMap<>(everyKind());
            patch.put("gone", null);
            patch.put("nested", new HashMap<>(Collections.singletonMap("gone", null)));
            desire(device, patch);
            assertEquals(patch, changes.next());

            Map<String, Object> merged = new HashMap<>(everyKind());
            merged.put("kept", "here");
            merged.put("nested", Map.of("stays", 3L));
            assertEquals(merged, Twins.get(client).getDesiredProperties());
            assertEquals(3, Twins.get(client).getDesiredProperties().getVersion());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aReplacedTwinTellsTheDeviceWhatWent(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        desire(device, Map.of("went", 1, "stays", 2));
        DeviceClient client = device.open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            Twin replacement = new Twin(device.id());
            replacement.getDesiredProperties().put("stays", 3);
            twins.replace(replacement);

            TwinCollection change = changes.next();
            assertEquals(3L, change.get("stays"));
            assertTrue(change.containsKey("went") && change.get("went") == null, change.toString());
            assertEquals(3, change.getVersion());
            assertEquals(Map.of("stays", 3L), Twins.get(client).getDesiredProperties());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aChangeOfTagsIsNotToldToTheDevice(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.Changes changes = Twins.follow(client);
            Twin tagged = new Twin(device.id());
            tagged.getTags().put("room", "kitchen");
            twins.patch(tagged);
            desire(device, Map.of("after", true));
            assertEquals(Map.of("after", true), changes.next());
            assertEquals(2, Twins.get(client).getDesiredProperties().getVersion());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void changesMissedOfflineStandInTheTwinAndAreNotTold(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        Twins.Changes changes = Twins.follow(client);
        client.close();
        desire(device, Map.of("missed", 1));
        client.open(false);
        try {
            changes = Twins.follow(client);
            assertEquals(Map.of("missed", 1L), Twins.get(client).getDesiredProperties());
            desire(device, Map.of("heard", 2));
            assertEquals(Map.of("heard", 2L), changes.next());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void twinsWorkAgainAfterACut(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        CountDownLatch cut = new CountDownLatch(1);
        CountDownLatch back = new CountDownLatch(2);
        client.setConnectionStatusChangeCallback(change -> {
            if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED_RETRYING) {
                cut.countDown();
            }
            if (change.getNewStatus() == IotHubConnectionStatus.CONNECTED) {
                back.countDown();
            }
        }, null);
        client.open(false);
        try {
            Twins.Changes changes = Twins.follow(client);
            hub.cut(device.id());
            assertTrue(cut.await(30, TimeUnit.SECONDS), "the connection stayed open");
            assertTrue(back.await(30, TimeUnit.SECONDS), "the connection stayed away");
            assertEquals(2, Twins.report(client, Twins.of("back", true)));
            desire(device, Map.of("again", 1));
            assertEquals(Map.of("again", 1L), changes.next());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void manyReportsAtOnceAreAllCounted(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Twins.follow(client);
            List<CompletableFuture<Integer>> reports = IntStream.range(0, CHANGES)
                    .mapToObj(n -> Twins.reportAsync(client, Twins.of("p" + n, n)))
                    .toList();
            Set<Integer> versions = new HashSet<>();
            for (CompletableFuture<Integer> report : reports) {
                versions.add(report.get(30, TimeUnit.SECONDS));
            }
            assertEquals(IntStream.range(2, CHANGES + 2).boxed().collect(Collectors.toSet()), versions);
            assertEquals(CHANGES, twins.get(device.id()).getReportedProperties().size());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theTwinShowsTheConnectionAndItsModel(IotHubClientProtocol door) throws Exception {
        String model = "dtmi:com:example:Thermostat;1";
        TestDevice device = TestDevice.on(hub);
        Instant before = Instant.now().minusSeconds(1);
        DeviceClient client =
                new DeviceClient(device.connectionString(), door, TestDevice.options(door).modelId(model).build());
        client.open(false);
        try {
            Twins.follow(client);
            Twin connected = Await.until("connection", () -> twins.get(device.id()),
                    twin -> twin.getConnectionState().equals("CONNECTED"));
            assertEquals(model, connected.getModelId());
            Instant activity = Instant.parse(connected.getLastActivityTime());
            assertTrue(activity.isAfter(before), "last activity " + activity);
        } finally {
            client.close();
        }
        Await.until("disconnection", () -> twins.get(device.id()).getConnectionState(), "DISCONNECTED"::equals);
    }

    @Test
    void aNewTwinHasEveryField() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin twin = twins.get(device.id());
        assertEquals(device.id(), twin.getDeviceId());
        assertNull(twin.getModuleId());
        assertEquals("AAAAAAAAAAE=", twin.getETag());
        assertEquals(2, twin.getVersion());
        assertEquals(TwinStatus.ENABLED, twin.getStatus());
        assertEquals("DISCONNECTED", twin.getConnectionState());
        assertEquals(0, twin.getCloudToDeviceMessageCount());
        assertEquals("0001-01-01T00:00:00Z", twin.getLastActivityTime());
        assertFalse(twin.getCapabilities().isIotEdge());
        assertEquals("", twin.getModelId());
        assertEquals(Map.of(), twin.getTags());
        assertEquals(1, twin.getDesiredProperties().getVersion());
        assertEquals(1, twin.getReportedProperties().getVersion());
        assertNotNull(twin.getDesiredProperties().getTwinMetadata().getLastUpdated());
        assertNotNull(twin.getReportedProperties().getTwinMetadata().getLastUpdated());
    }

    @Test
    void theTwinCountsQueuedMessages() throws Exception {
        TestDevice device = TestDevice.on(hub);
        MessagingClient messaging = new MessagingClient(hub.owner(), IotHubServiceClientProtocol.AMQPS);
        messaging.open();
        messaging.send(device.id(), Service.message("one"), Messages.SEND_MILLIS);
        messaging.send(device.id(), Service.message("two"), Messages.SEND_MILLIS);
        messaging.close();
        assertEquals(2, twins.get(device.id()).getCloudToDeviceMessageCount());
    }

    @Test
    void aPatchMergesTagsAndDesiredProperties() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin first = new Twin(device.id());
        first.getTags().put("site", Map.of("city", "Oslo", "floor", 2));
        first.getDesiredProperties().put("interval", 5);
        Twin made = twins.patch(first);
        assertEquals(Map.of("site", Map.of("city", "Oslo", "floor", 2L)), made.getTags());
        assertEquals(3, made.getVersion());

        Twin second = new Twin(device.id());
        Map<String, Object> site = new HashMap<>();
        site.put("floor", null);
        site.put("room", List.of("a", 1, true));
        second.getTags().put("site", site);
        Twin merged = twins.patch(second);
        assertEquals(Map.of("site", Map.of("city", "Oslo", "room", List.of("a", 1L, true))), merged.getTags());
        assertEquals(Map.of("interval", 5L), merged.getDesiredProperties());
        assertEquals(merged.getTags(), twins.get(device.id()).getTags());
    }

    @Test
    void aReplacementClearsWhatItDoesNotName() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin full = new Twin(device.id());
        full.getTags().put("t", 1);
        full.getDesiredProperties().put("d", 1);
        twins.patch(full);
        Twin replacement = new Twin(device.id());
        replacement.getDesiredProperties().put("e", 2);
        Twin replaced = twins.replace(replacement);
        assertEquals(Map.of(), replaced.getTags());
        assertEquals(Map.of("e", 2L), replaced.getDesiredProperties());
    }

    @Test
    void anEtagGuardsPatchAndReplacement() throws Exception {
        TestDevice device = TestDevice.on(hub);
        String stale = twins.get(device.id()).getETag();
        Twin change = new Twin(device.id());
        change.getTags().put("t", 1);
        String fresh = twins.patch(change, stale).getETag();
        assertNotEquals(stale, fresh);
        assertThrows(IotHubPreconditionFailedException.class, () -> twins.patch(change, stale));
        assertThrows(IotHubPreconditionFailedException.class, () -> twins.replace(change, stale));
        assertThrows(IotHubPreconditionFailedException.class, () -> twins.patch(change, '"' + stale + '"'));
        String quoted = twins.replace(change, '"' + fresh + '"').getETag();
        assertNotEquals(fresh, quoted);
        assertNotEquals(quoted, twins.patch(change, "*").getETag());
    }

    @Test
    void reportsMoveTheVersionAndNotTheEtag() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin before = twins.get(device.id());
        DeviceClient client = device.open(IotHubClientProtocol.MQTT);
        try {
            Twins.follow(client);
            Twins.report(client, Twins.of("n", 1));
        } finally {
            client.close();
        }
        Twin after = twins.get(device.id());
        assertEquals(before.getETag(), after.getETag());
        assertEquals(before.getVersion() + 1, after.getVersion());
    }

    @Test
    void metadataTellsWhenAndInWhichVersionEachPropertyWasWritten() throws Exception {
        TestDevice device = TestDevice.on(hub);
        desire(device, Map.of("old", 1, "nested", Map.of("old", 1)));
        desire(device, Map.of("new", 2, "nested", Map.of("new", 2)));
        com.microsoft.azure.sdk.iot.service.twin.TwinCollection desired = twins.get(device.id()).getDesiredProperties();
        assertEquals(3, desired.getTwinMetadata().getLastUpdatedVersion());
        assertEquals(2, desired.getTwinMetadata("old").getLastUpdatedVersion());
        assertEquals(3, desired.getTwinMetadata("new").getLastUpdatedVersion());
        assertEquals(3, desired.getTwinMetadata("nested").getLastUpdatedVersion());
        TwinMetadata old = desired.getTwinMetadata("old");
        assertFalse(old.getLastUpdated().after(desired.getTwinMetadata("new").getLastUpdated()));
        assertTrue(Math.abs(System.currentTimeMillis() - old.getLastUpdated().getTime()) < 60_000, old.toString());
    }

    @Test
    void metadataOfReportedPropertiesHasNoVersions() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(IotHubClientProtocol.AMQPS);
        try {
            Twins.follow(client);
            Twins.report(client, Twins.of("n", 1));
        } finally {
            client.close();
        }
        TwinMetadata metadata = twins.get(device.id()).getReportedProperties().getTwinMetadata("n");
        assertNotNull(metadata.getLastUpdated());
        assertNull(metadata.getLastUpdatedVersion());
    }

    @ParameterizedTest
    @ValueSource(strings = {"with.dot", "with space", "$dollar", "with#"})
    void aForbiddenNameIsBadFormatForTheServiceToo(String name) throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin tagged = new Twin(device.id());
        tagged.getTags().put(name, 1);
        assertThrows(IotHubBadFormatException.class, () -> twins.patch(tagged));
        assertThrows(IotHubBadFormatException.class, () -> desire(device, Map.of(name, 1)));
        assertEquals(2, twins.get(device.id()).getVersion());
    }

    @Test
    void tagsOver8KibAndDesiredPropertiesOver32KibAreBadFormat() throws Exception {
        TestDevice device = TestDevice.on(hub);
        Twin tagged = new Twin(device.id());
        tagged.getTags().putAll(texts(3, 4000));
        assertThrows(IotHubBadFormatException.class, () -> twins.patch(tagged));
        assertThrows(IotHubBadFormatException.class, () -> desire(device, texts(9, 4000)));
        desire(device, texts(8, 4000));
    }

    @Test
    void theTwinOfNobodyIsNotFound() throws Exception {
        String nobody = "nobody-" + UUID.randomUUID();
        assertThrows(IotHubNotFoundException.class, () -> twins.get(nobody));
        assertThrows(IotHubNotFoundException.class, () -> twins.get(TestDevice.on(hub).id(), "no-such-module"));
        Twin change = new Twin(nobody);
        change.getTags().put("t", 1);
        assertThrows(IotHubNotFoundException.class, () -> twins.patch(change));
        assertThrows(IotHubNotFoundException.class, () -> twins.replace(change));
    }

    @Test
    void aDeletedDeviceComesBackWithANewTwin() throws Exception {
        TestDevice device = TestDevice.on(hub);
        desire(device, Map.of("n", 1));
        RegistryClient registry = new RegistryClient(hub.owner());
        registry.removeDevice(device.id());
        assertThrows(IotHubNotFoundException.class, () -> twins.get(device.id()));
        registry.addDevice(new com.microsoft.azure.sdk.iot.service.registry.Device(device.id()));
        assertEquals(Map.of(), twins.get(device.id()).getDesiredProperties());
    }

    /** Twins want ServiceConnect, which registryReadWrite does not give. */
    @Test
    void aPolicyOfTheRegistryDoesNotOpenTwins() throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubUnauthorizedException.class,
                () -> new TwinClient(hub.policy("registryReadWrite")).get(device.id()));
        assertEquals(device.id(), new TwinClient(hub.policy("service")).get(device.id()).getDeviceId());
    }

    private void desire(TestDevice device, Map<String, Object> properties) throws Exception {
        Twin change = new Twin(device.id());
        change.getDesiredProperties().putAll(properties);
        twins.patch(change);
    }

    /** One property of each kind that a twin may hold, as the SDK reads them back. */
    private static TwinCollection everyKind() {
        TwinCollection properties = new TwinCollection();
        properties.put("text", "h\u00e9llo \u20ac \"quoted\"");
        properties.put("whole", -7L);
        properties.put("fraction", 21.5);
        properties.put("yes", true);
        properties.put("list", List.of("a", 1L, List.of(true)));
        properties.put("nested", Map.of("deep", Map.of("er", "text")));
        properties.put("empty", new TwinCollection());
        return properties;
    }

    private static TwinCollection nested(int levels) {
        TwinCollection value = Twins.of("leaf", 1);
        for (int n = 1; n < levels; n++) {
            value = Twins.of("level", value);
        }
        return Twins.of("nested" + levels, value);
    }

    private static TwinCollection texts(int count, int length) {
        TwinCollection properties = new TwinCollection();
        IntStream.range(0, count).forEach(n -> properties.put("text" + n, "x".repeat(length)));
        return properties;
    }

    private static void assertRefused(IotHubStatusCode expected, DeviceClient client, TwinCollection properties) {
        IotHubClientException refusal = assertThrows(IotHubClientException.class, () -> Twins.report(client, properties));
        assertEquals(expected, refusal.getStatusCode(), () -> refusal.toString());
    }
}
