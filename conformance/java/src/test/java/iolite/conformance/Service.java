package iolite.conformance;

import com.microsoft.azure.sdk.iot.service.messaging.AcknowledgementType;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackBatch;
import com.microsoft.azure.sdk.iot.service.messaging.FeedbackRecord;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import com.microsoft.azure.sdk.iot.service.messaging.Message;
import com.microsoft.azure.sdk.iot.service.messaging.MessageFeedbackProcessorClient;
import com.microsoft.azure.sdk.iot.service.messaging.MessagingClient;
import com.microsoft.azure.sdk.iot.service.messaging.SendResult;
import java.net.HttpURLConnection;
import java.net.URL;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** A back end: it sends C2D messages and reads the feedback. */
final class Service implements AutoCloseable {
    private static final int SEND_MILLIS = 30_000;

    private final MessagingClient messaging;
    private final MessageFeedbackProcessorClient feedback;
    private final Queue<FeedbackRecord> records = new ConcurrentLinkedQueue<>();

    Service(Hub hub, IotHubServiceClientProtocol door) throws Exception {
        this(hub, door, batch -> AcknowledgementType.COMPLETE);
    }

    /** Answers every batch of feedback as the function says. */
    Service(Hub hub, IotHubServiceClientProtocol door, Function<FeedbackBatch, AcknowledgementType> answer) throws Exception {
        messaging = new MessagingClient(hub.owner(), door);
        messaging.open();
        feedback = new MessageFeedbackProcessorClient(hub.owner(), door, batch -> {
            records.addAll(batch.getRecords());
            return answer.apply(batch);
        });
        feedback.start();
    }

    void send(TestDevice device, Message message) throws Exception {
        messaging.send(device.id(), message, SEND_MILLIS);
    }

    /** Sends and returns the id that feedback will name. */
    String send(TestDevice device, String body) throws Exception {
        Message message = message(body);
        send(device, message);
        return message.getMessageId();
    }

    /** Hands all bodies over at once, in order, and returns what became of each. */
    List<SendResult> sendAll(TestDevice device, List<String> bodies) throws Exception {
        return results(bodies.stream().map(body -> sendAsync(device, body)).toList());
    }

    /** Sends each device a message of its own. */
    List<SendResult> sendToEach(List<TestDevice> devices, Function<TestDevice, String> body) throws Exception {
        return results(devices.stream().map(device -> sendAsync(device, body.apply(device))).toList());
    }

    private CompletableFuture<SendResult> sendAsync(TestDevice device, String body) {
        CompletableFuture<SendResult> result = new CompletableFuture<>();
        messaging.sendAsync(device.id(), message(body), result::complete, null);
        return result;
    }

    private static List<SendResult> results(List<CompletableFuture<SendResult>> sent) throws Exception {
        List<SendResult> results = new ArrayList<>();
        for (CompletableFuture<SendResult> result : sent) {
            results.add(result.get(SEND_MILLIS, TimeUnit.MILLISECONDS));
        }
        return results;
    }

    /** All feedback on a message so far. */
    List<FeedbackRecord> feedbackSoFar(String messageId) {
        return records.stream().filter(record -> record.getOriginalMessageId().equals(messageId)).toList();
    }

    /** Waits for the feedback on a message. */
    FeedbackRecord feedback(String messageId) throws Exception {
        return Await.until("feedback on " + messageId, () -> records.stream()
                .filter(record -> record.getOriginalMessageId().equals(messageId))
                .findFirst().orElse(null), record -> record != null);
    }

    /** Empties a device's queue, which the SDK has no call for. */
    static void purge(Hub hub, TestDevice device) throws Exception {
        URL url = new URL("https://" + hub.address + "/devices/" + device.id() + "/commands?api-version=2021-04-12");
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setRequestMethod("DELETE");
        connection.setRequestProperty("Authorization", Sas.policyToken(hub, "service"));
        HttpAnswer answer = HttpAnswer.to(connection, "");
        if (answer.status() != 200) {
            throw new IllegalStateException("purge: " + answer);
        }
    }

    static Message message(String body) {
        Message message = new Message(body);
        message.setMessageId(UUID.randomUUID().toString());
        return message;
    }

    @Override
    public void close() throws Exception {
        messaging.close();
        feedback.stop();
    }
}
