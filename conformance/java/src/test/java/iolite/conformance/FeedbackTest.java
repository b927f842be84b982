package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubMessageResult;
import com.microsoft.azure.sdk.iot.service.messaging.AcknowledgementType;
import com.microsoft.azure.sdk.iot.service.messaging.DeliveryAcknowledgement;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackBatch;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackRecord;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackStatusCode;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import com.microsoft.azure.sdk.iot.service.messaging.Message;
import java.time.Instant;
import java.util.Collections;
import java.util.Date;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What became of cloud-to-device messages, told to the back end that asked. C2dTest has the outcomes door by door. */
class FeedbackTest {
    private static final int MOST_RECORDS = 64;
    private static final int EACH = 35;

    private Hub hub;

    @BeforeEach
    void start() throws Exception {
        hub = Hubs.own();
    }

    @AfterEach
    void stop() throws Exception {
        hub.close();
    }

    @ParameterizedTest
    @EnumSource(IotHubServiceClientProtocol.class)
    void feedbackComesForTheOutcomesThatWereAskedForAndNoOthers(IotHubServiceClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.listener(IotHubClientProtocol.AMQPS);
        Messages.listen(client, message -> IotHubMessageResult.valueOf(Messages.body(message)));
        client.open(false);
        try (Service service = new Service(hub, door)) {
            List<String> unwanted = List.of(
                    ask(service, device, "REJECT", DeliveryAcknowledgement.PositiveOnly),
                    ask(service, device, "COMPLETE", DeliveryAcknowledgement.NegativeOnly),
                    ask(service, device, "COMPLETE", DeliveryAcknowledgement.None),
                    ask(service, device, "REJECT", DeliveryAcknowledgement.None));
            assertOutcome(service, FeedbackStatusCode.success, ask(service, device, "COMPLETE", DeliveryAcknowledgement.PositiveOnly));
            assertOutcome(service, FeedbackStatusCode.success, ask(service, device, "COMPLETE", DeliveryAcknowledgement.Full));
            assertOutcome(service, FeedbackStatusCode.rejected, ask(service, device, "REJECT", DeliveryAcknowledgement.NegativeOnly));
            assertOutcome(service, FeedbackStatusCode.rejected, ask(service, device, "REJECT", DeliveryAcknowledgement.Full));
            unwanted.forEach(messageId -> assertEquals(List.of(), service.feedbackSoFar(messageId)));
        } finally {
            client.close();
        }
    }

    @Test
    void aRecordNamesTheMessageTheDeviceAndTheMoment() throws Exception {
        TestDevice device = TestDevice.on(hub);
        try (Service service = new Service(hub, IotHubServiceClientProtocol.AMQPS)) {
            Instant earliest = hub.now().minusSeconds(1);
            String messageId = service.send(device, "never read");
            Service.purge(hub, device);
            FeedbackRecord record = service.feedback(messageId);
            assertEquals(FeedbackStatusCode.unknown, record.getStatusCode()); // the SDK has no name for Purged
            assertEquals("Purged", record.getDescription());
            assertEquals(device.id(), record.getDeviceId());
            assertEquals(device.generationId(), record.getDeviceGenerationId());
            assertFalse(record.getEnqueuedTimeUtc().toInstant().isBefore(earliest));
            assertFalse(record.getEnqueuedTimeUtc().toInstant().isAfter(hub.now()));
        }
    }

    @Test
    void whatNobodyTookIsExpiredAfterItsOwnTimeOrAfterAnHour() throws Exception {
        TestDevice device = TestDevice.on(hub);
        try (Service service = new Service(hub, IotHubServiceClientProtocol.AMQPS)) {
            Message brief = Service.message("brief");
            brief.setExpiryTimeUtc(Date.from(hub.now().plusSeconds(30)));
            service.send(device, brief);
            String ordinary = service.send(device, "ordinary");
            hub.advance("31s");
            assertOutcome(service, FeedbackStatusCode.expired, brief.getMessageId());
            assertEquals(List.of(), service.feedbackSoFar(ordinary));
            hub.advance("1h");
            assertOutcome(service, FeedbackStatusCode.expired, ordinary);
        }
    }

    @ParameterizedTest
    @EnumSource(IotHubServiceClientProtocol.class)
    void aBatchThatWasAbandonedComesAgain(IotHubServiceClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        List<FeedbackBatch> batches = new CopyOnWriteArrayList<>();
        try (Service service = new Service(hub, door, batch -> {
            batches.add(batch);
            return batches.size() < 3 ? AcknowledgementType.ABANDON : AcknowledgementType.COMPLETE;
        })) {
            String messageId = service.send(device, "never read");
            Service.purge(hub, device);
            Await.until("third delivery", batches::size, count -> count == 3);
            assertEquals(Collections.nCopies(3, messageId), batches.stream()
                    .map(batch -> batch.getRecords().get(0).getOriginalMessageId()).toList());
        }
    }

    @Test
    void aBatchHasUpTo64RecordsAndWaitsForABackEndThatIsAway() throws Exception {
        List<TestDevice> devices = List.of(TestDevice.on(hub), TestDevice.on(hub));
        try (Service sender = new Service(hub, IotHubServiceClientProtocol.AMQPS)) {
            for (TestDevice device : devices) {
                sender.sendAll(device, Collections.nCopies(EACH, "never read"))
                        .forEach(result -> assertTrue(result.wasSentSuccessfully()));
            }
        }
        for (TestDevice device : devices) {
            Service.purge(hub, device);
        }
        List<FeedbackBatch> batches = new CopyOnWriteArrayList<>();
        try (Service reader = new Service(hub, IotHubServiceClientProtocol.AMQPS, batch -> {
            batches.add(batch);
            return AcknowledgementType.COMPLETE;
        })) {
            Await.until("second batch", batches::size, count -> count == 2);
        }
        assertEquals(MOST_RECORDS, batches.get(0).getRecords().size());
        List<FeedbackRecord> records = batches.stream().flatMap(batch -> batch.getRecords().stream()).toList();
        assertEquals(2 * EACH, records.stream().map(FeedbackRecord::getOriginalMessageId).distinct().count());
    }

    private static String ask(Service service, TestDevice device, String answer, DeliveryAcknowledgement acknowledgement)
            throws Exception {
        Message message = Service.message(answer);
        message.setDeliveryAcknowledgement(acknowledgement);
        service.send(device, message);
        return message.getMessageId();
    }

    private static void assertOutcome(Service service, FeedbackStatusCode outcome, String messageId) throws Exception {
        assertEquals(outcome, service.feedback(messageId).getStatusCode());
        assertEquals(1, service.feedbackSoFar(messageId).size());
    }
}
