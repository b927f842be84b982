package iolite.conformance;

import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubMessageResult;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** Sending and receiving with a device client. */
final class Messages {
    static final int SEND_MILLIS = 30_000;

    static void send(DeviceClient client, String body) throws Exception {
        client.sendEvent(new Message(body), SEND_MILLIS);
    }

    /** Sends each body when the one before has been acknowledged. */
    static void sendEach(DeviceClient client, List<String> bodies) throws Exception {
        for (String body : bodies) {
            send(client, body);
        }
    }

    /**
     * Hands all bodies over at once and returns them in the order in which they were acknowledged. That need not be the
     * order given: while it looks for expired messages the SDK puts those it has queued behind those that arrive meanwhile.
     */
    static List<String> sendAll(DeviceClient client, List<String> bodies) throws Exception {
        List<String> acknowledged = Collections.synchronizedList(new ArrayList<>());
        List<CompletableFuture<Void>> sent = new ArrayList<>();
        for (String body : bodies) {
            CompletableFuture<Void> done = new CompletableFuture<>();
            sent.add(done);
            client.sendEventAsync(new Message(body), (message, failure, context) -> {
                acknowledged.add(body);
                settle(done, failure);
            }, null);
        }
        CompletableFuture.allOf(sent.toArray(CompletableFuture[]::new)).get(SEND_MILLIS, TimeUnit.MILLISECONDS);
        return List.copyOf(acknowledged);
    }

    /** Answers each C2D message that arrives and keeps it. */
    static Inbox listen(DeviceClient client, Function<Message, IotHubMessageResult> answer) {
        BlockingQueue<Message> arrived = new LinkedBlockingQueue<>();
        client.setMessageCallback((message, context) -> {
            arrived.add(message);
            return answer.apply(message);
        }, null);
        return new Inbox(arrived);
    }

    static Inbox listen(DeviceClient client) {
        return listen(client, message -> IotHubMessageResult.COMPLETE);
    }

    record Inbox(BlockingQueue<Message> arrived) {
        Message next() throws Exception {
            Message message = arrived.poll(SEND_MILLIS, TimeUnit.MILLISECONDS);
            if (message == null) {
                throw new AssertionError("no message in time");
            }
            return message;
        }

        String nextBody() throws Exception {
            return body(next());
        }
    }

    static String body(Message message) {
        return new String(message.getBytes(), Message.DEFAULT_IOTHUB_MESSAGE_CHARSET);
    }

    private static void settle(CompletableFuture<Void> done, IotHubClientException failure) {
        if (failure == null) {
            done.complete(null);
        } else {
            done.completeExceptionally(failure);
        }
    }

    private Messages() {}
}
