package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.transport.IotHubConnectionStatus;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.service.exceptions.ErrorCodeDescription;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadFormatException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubBadGatewayException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubGatewayTimeoutException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodRequestOptions;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodsClient;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Direct methods: DirectMethodsClient calls, a device on each door answers. HTTPS has no methods. */
class DirectMethodTest {
    private static final int NOT_ONLINE = 404103;
    private static final int KIB = 1024;
    private static final int CALLS = 20;

    private final Hub hub = Hubs.main();
    private final DirectMethodsClient methods = new DirectMethodsClient(hub.owner());

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void everyKindOfPayloadPassesBothWays(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Methods.echo(client);
            for (String payload : List.of("null", "true", "0", "-1.5e3", "\"\"", "\"h\u00e9llo \u20ac\"", "[]", "{}",
                    "[1,\"two\",[false],{\"three\":3}]", "{\"a\":{\"b\":[{}]},\"c\":\"d\"}")) {
                JsonElement given = Methods.json(payload);
                assertEquals(given, Methods.echoed(methods.invoke(device.id(), "echo", Methods.with(given))), payload);
            }
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aCallWithoutPayloadIsAnswered(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(204, null));
            com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse response = methods.invoke(device.id(), "reboot");
            assertEquals(204, response.getStatus());
            assertTrue(response.getPayloadAsJsonElement().isJsonNull());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theStatusIsTheDevicesOwn(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(payload.getAsInt(), "text"));
            for (int status : new int[] {0, 1, 200, 404, 500, 123456}) {
                com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse response =
                        methods.invoke(device.id(), "answer", Methods.with(status));
                assertEquals(status, response.getStatus());
                assertEquals("text", response.getPayload(String.class));
            }
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void theNameArrivesAsItWasGiven(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(200, Map.of("name", name)));
            for (String name : List.of("MixedCase", "component*command", "na-me_1", "100%25", "a&b=c?d")) {
                JsonElement answer = methods.invoke(device.id(), name, Methods.NOW).getPayloadAsJsonElement();
                assertEquals(name, answer.getAsJsonObject().get("name").getAsString());
            }
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void payloadsOf127KibPassBothWays(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Methods.echo(client);
            String large = "0123456789abcdef".repeat(127 * KIB / 16);
            assertEquals(large, Methods.echoed(methods.invoke(device.id(), "echo", Methods.with(large))).getAsString());
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void anAnswerOver128KibFailsTheCallAndNotTheConnection(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            Methods.answer(client, (name, payload) -> new DirectMethodResponse(200, "x".repeat(payload.getAsInt())));
            assertThrows(IotHubBadGatewayException.class,
                    () -> methods.invoke(device.id(), "answer", Methods.with(129 * KIB)));
            assertEquals("xx", methods.invoke(device.id(), "answer", Methods.with(2)).getPayload(String.class));
        } finally {
            client.close();
        }
    }

    /** The device SDK runs one handler at a time; the calls overlap all the same. */
    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void everyOneOfManyCallsAtOnceGetsItsOwnAnswer(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        ExecutorService callers = Executors.newFixedThreadPool(CALLS);
        try {
            Methods.echo(client);
            List<CompletableFuture<Integer>> answers = IntStream.range(0, CALLS)
                    .mapToObj(n -> CompletableFuture.supplyAsync(() -> echoed(device, n), callers))
                    .toList();
            for (int n = 0; n < CALLS; n++) {
                assertEquals(n, answers.get(n).get(30, TimeUnit.SECONDS));
            }
        } finally {
            callers.shutdownNow();
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aSlowDeviceHoldsUpNobodyElse(IotHubClientProtocol door) throws Exception {
        TestDevice slow = TestDevice.on(hub);
        TestDevice quick = TestDevice.on(hub);
        DeviceClient sleeper = slow.open(door);
        DeviceClient client = quick.open(door);
        CountDownLatch asked = new CountDownLatch(1);
        CountDownLatch end = new CountDownLatch(1);
        try {
            Methods.answer(sleeper, (name, payload) -> {
                asked.countDown();
                awaitQuietly(end);
                return new DirectMethodResponse(200, "at last");
            });
            Methods.echo(client);
            CompletableFuture<String> answer =
                    inBackground(() -> methods.invoke(slow.id(), "slow", Methods.NOW).getPayload(String.class));
            assertTrue(asked.await(30, TimeUnit.SECONDS), "the slow device was not asked");
            for (int n = 0; n < 5; n++) {
                assertEquals(n, echoed(quick, n));
            }
            end.countDown();
            assertEquals("at last", answer.get(30, TimeUnit.SECONDS));
        } finally {
            end.countDown();
            sleeper.close();
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aConnectedDeviceThatTakesNoMethodsIsNotOnline(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        try {
            assertNotOnline(device, Methods.NOW);
        } finally {
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aDeviceThatHasGoneIsNotOnline(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        Methods.echo(client);
        assertEquals(1, echoed(device, 1));
        client.close();
        Await.until("end of methods", () -> errorOf(device, Methods.NOW), error -> error == NOT_ONLINE);
    }

    @Test
    void aDeviceThatNeverConnectedIsNotOnline() throws Exception {
        IotHubException refusal = assertNotOnline(TestDevice.on(hub), Methods.NOW);
        assertEquals(ErrorCodeDescription.DeviceNotOnline, refusal.getErrorCodeDescription());
    }

    @Test
    void anUnknownDeviceIsNotFound() {
        IotHubNotFoundException refusal = assertThrows(IotHubNotFoundException.class,
                () -> methods.invoke("nobody-" + UUID.randomUUID(), "reboot", Methods.NOW));
        assertEquals(ErrorCodeDescription.DeviceNotFound, refusal.getErrorCodeDescription());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aCallWaitsForTheDeviceToConnect(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        CompletableFuture<JsonElement> answer = inBackground(() ->
                Methods.echoed(methods.invoke(device.id(), "echo", Methods.options("early", 60, 60))));
        DeviceClient client = device.open(door);
        try {
            Methods.echo(client);
            assertEquals("early", answer.get(30, TimeUnit.SECONDS).getAsString());
        } finally {
            client.close();
        }
    }

    @Test
    void aCallDoesNotWaitForeverForTheDeviceToConnect() throws Exception {
        Hub moved = Hubs.moved();
        TestDevice device = TestDevice.on(moved);
        CompletableFuture<?> answer = inBackground(() ->
                new DirectMethodsClient(moved.owner()).invoke(device.id(), "reboot", Methods.options(null, 10, 10)));
        ExecutionException end = assertThrows(ExecutionException.class, () -> advanceUntilDone(moved, answer));
        IotHubNotFoundException refusal = assertInstanceOf(IotHubNotFoundException.class, end.getCause());
        assertEquals(NOT_ONLINE, refusal.getErrorCode());
        assertTrue(refusal.getMessage().contains("Timed out waiting for device to connect"), refusal.getMessage());
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void noAnswerInTimeIsAGatewayTimeoutAndALateAnswerIsNobodys(IotHubClientProtocol door) throws Exception {
        Hub moved = Hubs.moved();
        DirectMethodsClient caller = new DirectMethodsClient(moved.owner());
        TestDevice device = TestDevice.on(moved);
        DeviceClient client = device.open(door);
        CountDownLatch asked = new CountDownLatch(1);
        CountDownLatch late = new CountDownLatch(1);
        try {
            Methods.answer(client, (name, payload) -> {
                asked.countDown();
                awaitQuietly(late);
                return new DirectMethodResponse(200, name);
            });
            CompletableFuture<?> answer =
                    inBackground(() -> caller.invoke(device.id(), "slow", Methods.options(null, 0, 5)));
            assertTrue(asked.await(30, TimeUnit.SECONDS), "the device was not asked");
            moved.advance("6s");
            ExecutionException end = assertThrows(ExecutionException.class, () -> answer.get(30, TimeUnit.SECONDS));
            IotHubGatewayTimeoutException refusal = assertInstanceOf(IotHubGatewayTimeoutException.class, end.getCause());
            assertEquals(504101, refusal.getErrorCode());
            late.countDown();
            assertEquals("next", caller.invoke(device.id(), "next", Methods.NOW).getPayload(String.class));
        } finally {
            late.countDown();
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void aDeviceThatGoesAwayFailsTheCallAtOnce(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        client.setRetryPolicy(new NoRetry());
        client.open(false);
        CountDownLatch asked = new CountDownLatch(1);
        CountDownLatch gone = new CountDownLatch(1);
        try {
            Methods.answer(client, (name, payload) -> {
                asked.countDown();
                awaitQuietly(gone);
                return new DirectMethodResponse(200, null);
            });
            CompletableFuture<?> answer = inBackground(() -> methods.invoke(device.id(), "slow", Methods.NOW));
            assertTrue(asked.await(30, TimeUnit.SECONDS), "the device was not asked");
            hub.cut(device.id());
            ExecutionException end = assertThrows(ExecutionException.class, () -> answer.get(20, TimeUnit.SECONDS));
            assertInstanceOf(IotHubNotFoundException.class, end.getCause());
        } finally {
            gone.countDown();
            client.close();
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void methodsWorkAgainAfterACut(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.client(door);
        CountDownLatch cut = new CountDownLatch(1);
        client.setConnectionStatusChangeCallback(change -> {
            if (change.getNewStatus() == IotHubConnectionStatus.DISCONNECTED_RETRYING) {
                cut.countDown();
            }
        }, null);
        client.open(false);
        try {
            Methods.echo(client);
            hub.cut(device.id());
            assertTrue(cut.await(30, TimeUnit.SECONDS), "the connection stayed open");
            JsonElement answer =
                    Methods.echoed(methods.invoke(device.id(), "echo", Methods.options("again", 30, 30)));
            assertEquals("again", answer.getAsString());
        } finally {
            client.close();
        }
    }

    @Test
    void aPayloadOver128KibIsRefused() throws Exception {
        TestDevice device = TestDevice.on(hub);
        IotHubException refusal = assertThrows(IotHubException.class,
                () -> methods.invoke(device.id(), "echo", Methods.with("x".repeat(129 * KIB))));
        assertEquals(413001, refusal.getErrorCode(), refusal.getMessage());
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4, 301})
    void aResponseTimeoutOutOfRangeIsBadFormat(int seconds) throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubBadFormatException.class,
                () -> methods.invoke(device.id(), "reboot", Methods.options(null, 0, seconds)));
    }

    @Test
    void aConnectTimeoutLongerThanTheResponseTimeoutIsBadFormat() throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubBadFormatException.class,
                () -> methods.invoke(device.id(), "reboot", Methods.options(null, 31, 30)));
    }

    @Test
    void methodsWantServiceConnect() throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubUnauthorizedException.class, () ->
                new DirectMethodsClient(hub.policy("registryReadWrite")).invoke(device.id(), "reboot", Methods.NOW));
    }

    private interface Call<T> {
        T run() throws Exception;
    }

    private static <T> CompletableFuture<T> inBackground(Call<T> call) {
        CompletableFuture<T> result = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                result.complete(call.run());
            } catch (Exception e) {
                result.completeExceptionally(e);
            }
        });
        thread.setDaemon(true);
        thread.start();
        return result;
    }

    /** Nothing tells when a call has begun to wait, so the clock moves until it gives up. */
    private static void advanceUntilDone(Hub hub, CompletableFuture<?> answer) throws Exception {
        Await.until("end of the call", () -> {
            hub.advance("2s");
            return answer.isDone();
        }, done -> done);
        answer.get();
    }

    private static void awaitQuietly(CountDownLatch latch) {
        try {
            latch.await(30, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private int echoed(TestDevice device, int n) {
        try {
            return Methods.echoed(methods.invoke(device.id(), "echo", Methods.with(n))).getAsInt();
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private IotHubException assertNotOnline(TestDevice device, DirectMethodRequestOptions options) {
        IotHubNotFoundException refusal =
                assertThrows(IotHubNotFoundException.class, () -> methods.invoke(device.id(), "reboot", options));
        assertEquals(NOT_ONLINE, refusal.getErrorCode());
        return refusal;
    }

    /** The code of the error that a call ends with, 0 for none. */
    private int errorOf(TestDevice device, DirectMethodRequestOptions options) throws Exception {
        try {
            methods.invoke(device.id(), "reboot", options);
            return 0;
        } catch (IotHubException e) {
            return e.getErrorCode();
        }
    }
}
