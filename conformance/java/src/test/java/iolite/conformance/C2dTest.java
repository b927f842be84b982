package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubMessageResult;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubDeviceMaximumQueueDepthExceededException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubMessageTooLargeException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackRecord;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackStatusCode;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import com.microsoft.azure.sdk.iot.service.messaging.MessagingClient;
import com.microsoft.azure.sdk.iot.service.messaging.SendResult;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Cloud to device on every door, on a hub that lets HTTPS devices poll freely: the poll rule has a test of its own.
 */
class C2dTest {
    private static final int QUEUE_LIMIT = 50;
    private static final int MAX_DELIVERIES = 10;

    private static Hub hub;
    private static Service service;

    @BeforeAll
    static void open() throws Exception {
        hub = Hubs.lenient();
        service = new Service(hub, IotHubServiceClientProtocol.AMQPS);
    }

    @AfterAll
    static void close() throws Exception {
        service.close();
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aMessageArrivesWithAllItsProperties(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        com.microsoft.azure.sdk.iot.service.messaging.Message sent = Service.message("hello");
        sent.setCorrelationId("cid-1");
        sent.setUserId("back end");
        sent.setExpiryTimeUtc(Date.from(Instant.now().plus(Duration.ofMinutes(10))));
        sent.getProperties().put("plain", "value");
        sent.getProperties().put("Other", "b-2");

        Message received = receive(device, door, () -> service.send(device, sent));
        assertEquals("hello", Messages.body(received));
        assertEquals(sent.getMessageId(), received.getMessageId());
        assertEquals("cid-1", received.getCorrelationId());
        assertEquals("value", received.getProperty("plain"));
        assertEquals("b-2", received.getProperty("Other"));
    }

    @ParameterizedTest
    @EnumSource(names = {"MQTT", "MQTT_WS", "AMQPS", "AMQPS_WS"})
    void propertiesKeepEveryCharacter(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        com.microsoft.azure.sdk.iot.service.messaging.Message sent = Service.message("hello");
        sent.getProperties().put("with space", "a=b&c/d?e#f+g%h");
        sent.getProperties().put("\u00fcn\u00efcode", "\u20ac");

        Message received = receive(device, door, () -> service.send(device, sent));
        assertEquals("a=b&c/d?e#f+g%h", received.getProperty("with space"));
        assertEquals("\u20ac", received.getProperty("\u00fcn\u00efcode"));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aBodyOf64KibLessItsPropertiesArrives(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        String body = "0123456789abcdef".repeat(60 * 1024 / 16);
        assertEquals(body, Messages.body(receive(device, door, () -> service.send(device, body))));
    }

    @ParameterizedTest
    @EnumSource(IotHubServiceClientProtocol.class)
    void theServiceSendsAndHearsBackThroughEitherDoor(IotHubServiceClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        try (Service other = new Service(hub, door)) {
            AtomicInteger received = new AtomicInteger();
            DeviceClient client = device.listener(IotHubClientProtocol.AMQPS);
            Messages.listen(client, message -> {
                received.incrementAndGet();
                return IotHubMessageResult.COMPLETE;
            });
            client.open(false);
            try {
                MessagingClient messaging = new MessagingClient(hub.owner(), door);
                messaging.open();
                com.microsoft.azure.sdk.iot.service.messaging.Message message = Service.message("through " + door);
                messaging.send(device.id(), message, Messages.SEND_MILLIS);
                messaging.close();
                Await.until("message", received::get, count -> count == 1);
            } finally {
                client.close();
            }
        }
    }

    /** All fifty that a queue holds are sent before the device first connects. */
    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void messagesWaitForAnOfflineDeviceInOrder(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        List<String> bodies = IntStream.range(0, QUEUE_LIMIT).mapToObj(n -> "message " + n).toList();
        service.sendAll(device, bodies).forEach(result -> assertTrue(result.wasSentSuccessfully()));

        DeviceClient client = device.listener(door);
        Messages.Inbox inbox = Messages.listen(client);
        client.open(false);
        try {
            for (String body : bodies) {
                assertEquals(body, inbox.nextBody());
            }
        } finally {
            client.close();
        }
    }

    @Test
    void the51stQueuedMessageIsRefusedAndTheFiftyStay() throws Exception {
        TestDevice device = TestDevice.on(hub);
        List<String> bodies = IntStream.rangeClosed(0, QUEUE_LIMIT).mapToObj(Integer::toString).toList();
        List<SendResult> results = service.sendAll(device, bodies);
        assertEquals(QUEUE_LIMIT, results.stream().filter(SendResult::wasSentSuccessfully).count());
        assertInstanceOf(IotHubDeviceMaximumQueueDepthExceededException.class, results.get(QUEUE_LIMIT).getException());
    }

    @Test
    void aMessageToAnUnknownDeviceIsRefused() throws Exception {
        TestDevice nobody = new TestDevice(hub, "nobody", "", "", "");
        assertThrows(IotHubNotFoundException.class, () -> service.send(nobody, "hello?"));
    }

    @Test
    void aMessageOver64KibIsTooLarge() throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertThrows(IotHubMessageTooLargeException.class, () -> service.send(device, "x".repeat(64 * 1024 + 1)));
    }

    @ParameterizedTest
    @EnumSource(IotHubServiceClientProtocol.class)
    void aWrongPolicyKeyIsRefused(IotHubServiceClientProtocol door) {
        String wrong = hub.owner().replaceFirst("SharedAccessKey=.*", "SharedAccessKey=d3Jvbmc=");
        MessagingClient messaging = new MessagingClient(wrong, door);
        assertThrows(IotHubUnauthorizedException.class, messaging::open);
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aCompletedMessageIsReportedAsSuccess(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        FeedbackRecord record = outcome(device, door, IotHubMessageResult.COMPLETE, 1);
        assertEquals(FeedbackStatusCode.success, record.getStatusCode());
        assertEquals("Success", record.getDescription());
        assertEquals(device.id(), record.getDeviceId());
        assertEquals(device.generationId(), record.getDeviceGenerationId());
        assertTrue(Duration.between(record.getEnqueuedTimeUtc().toInstant(), Instant.now()).abs().toSeconds() < 60);
    }

    /** MQTT knows no reject. */
    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS", "HTTPS"})
    void aRejectedMessageIsReportedAndNotDeliveredAgain(IotHubClientProtocol door) throws Exception {
        FeedbackRecord record = outcome(TestDevice.on(hub), door, IotHubMessageResult.REJECT, 1);
        assertEquals(FeedbackStatusCode.rejected, record.getStatusCode());
    }

    /** MQTT knows no abandon. */
    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS", "HTTPS"})
    void anAbandonedMessageComesBackUntilItsDeliveriesAreUsedUp(IotHubClientProtocol door) throws Exception {
        FeedbackRecord record = outcome(TestDevice.on(hub), door, IotHubMessageResult.ABANDON, MAX_DELIVERIES);
        assertEquals(FeedbackStatusCode.deliveryCountExceeded, record.getStatusCode());
    }

    @ParameterizedTest
    @EnumSource(names = {"AMQPS", "AMQPS_WS", "HTTPS"})
    void anAbandonedMessageComesBackBeforeTheNext(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        service.sendAll(device, List.of("first", "second", "third"));
        AtomicInteger deliveries = new AtomicInteger();
        DeviceClient client = device.listener(door);
        Messages.Inbox inbox = Messages.listen(client, message -> deliveries.incrementAndGet() == 1
                ? IotHubMessageResult.ABANDON : IotHubMessageResult.COMPLETE);
        client.open(false);
        try {
            assertEquals("first", inbox.nextBody());
            List<String> rest = List.of(inbox.nextBody(), inbox.nextBody(), inbox.nextBody());
            assertTrue(rest.containsAll(List.of("first", "second", "third")), rest.toString());
            assertTrue(rest.indexOf("second") < rest.indexOf("third"), rest.toString());
        } finally {
            client.close();
        }
    }

    @Test
    void anExpiredMessageIsReportedAndNotDelivered() throws Exception {
        Hub moved = Hubs.moved();
        TestDevice device = TestDevice.on(moved);
        try (Service later = new Service(moved, IotHubServiceClientProtocol.AMQPS)) {
            com.microsoft.azure.sdk.iot.service.messaging.Message stale = Service.message("stale");
            stale.setExpiryTimeUtc(Date.from(moved.now().plusSeconds(60)));
            later.send(device, stale);
            later.send(device, "fresh");
            moved.advance("61s");
            assertEquals(FeedbackStatusCode.expired, later.feedback(stale.getMessageId()).getStatusCode());
        }
        DeviceClient client = device.listener(IotHubClientProtocol.AMQPS);
        Messages.Inbox inbox = Messages.listen(client);
        client.open(false);
        try {
            assertEquals("fresh", inbox.nextBody());
        } finally {
            client.close();
        }
    }

    private interface Action {
        void run() throws Exception;
    }

    private static Message receive(TestDevice device, IotHubClientProtocol door, Action send) throws Exception {
        DeviceClient client = device.listener(door);
        Messages.Inbox inbox = Messages.listen(client);
        client.open(false);
        try {
            send.run();
            return inbox.next();
        } finally {
            client.close();
        }
    }

    /** What is reported when the device always gives this answer, and that it was asked so many times. */
    private static FeedbackRecord outcome(TestDevice device, IotHubClientProtocol door, IotHubMessageResult answer, int deliveries)
            throws Exception {
        AtomicInteger delivered = new AtomicInteger();
        DeviceClient client = device.listener(door);
        Messages.listen(client, message -> {
            delivered.incrementAndGet();
            return answer;
        });
        client.open(false);
        try {
            FeedbackRecord record = service.feedback(service.send(device, "what becomes of me?"));
            assertEquals(deliveries, delivered.get());
            return record;
        } finally {
            client.close();
        }
    }
}
