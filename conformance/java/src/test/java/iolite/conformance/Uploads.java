package iolite.conformance;

import com.azure.core.util.BinaryData;
import com.azure.storage.blob.BlobClient;
import com.azure.storage.blob.BlobClientBuilder;
import com.azure.storage.common.policy.RequestRetryOptions;
import com.azure.storage.common.policy.RetryPolicyType;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.FileUploadCompletionNotification;
import com.microsoft.azure.sdk.iot.device.FileUploadSasUriRequest;
import com.microsoft.azure.sdk.iot.device.FileUploadSasUriResponse;
import com.microsoft.azure.sdk.iot.service.messaging.AcknowledgementType;
import com.microsoft.azure.sdk.iot.service.messaging.FileUploadNotification;
import com.microsoft.azure.sdk.iot.service.messaging.FileUploadNotificationProcessorClient;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Function;

/** File uploads as devices make them, and a back end that collects the notifications. */
final class Uploads implements AutoCloseable {
    private static final RequestRetryOptions ONCE =
            new RequestRetryOptions(RetryPolicyType.FIXED, 1, (Integer) null, null, null, null);

    private final List<FileUploadNotification> arrived = new CopyOnWriteArrayList<>();
    private final FileUploadNotificationProcessorClient client;

    Uploads(Hub hub, IotHubServiceClientProtocol door) throws Exception {
        this(hub, door, notification -> AcknowledgementType.COMPLETE);
    }

    /** Answers every notification as the function says. */
    Uploads(Hub hub, IotHubServiceClientProtocol door, Function<FileUploadNotification, AcknowledgementType> answer)
            throws Exception {
        client = new FileUploadNotificationProcessorClient(hub.owner(), door, notification -> {
            arrived.add(notification);
            return answer.apply(notification);
        });
        client.start();
    }

    /** Waits for so many notifications about one device. */
    List<FileUploadNotification> of(TestDevice device, int count) throws Exception {
        return Await.until(count + " notifications", () -> arrived.stream()
                .filter(notification -> notification.getDeviceId().equals(device.id())).toList(), found -> found.size() >= count);
    }

    static FileUploadSasUriResponse begin(DeviceClient client, String name) throws Exception {
        return client.getFileUploadSasUri(new FileUploadSasUriRequest(name));
    }

    static void end(DeviceClient client, FileUploadSasUriResponse begun, boolean success) throws Exception {
        client.completeFileUpload(new FileUploadCompletionNotification(begun.getCorrelationId(), success));
    }

    /** All three steps, with the storage SDK for the second. */
    static void upload(DeviceClient client, String name, byte[] bytes) throws Exception {
        FileUploadSasUriResponse begun = begin(client, name);
        blob(begun).upload(BinaryData.fromBytes(bytes), true);
        end(client, begun, true);
    }

    /** The storage SDK's client of the place that the hub has named. */
    static BlobClient blob(FileUploadSasUriResponse begun) throws Exception {
        return new BlobClientBuilder().endpoint(begun.getBlobUri().toString()).retryOptions(ONCE).buildClient();
    }

    @Override
    public void close() throws Exception {
        client.stop();
    }
}
