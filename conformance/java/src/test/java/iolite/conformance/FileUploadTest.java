package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.util.BinaryData;
import com.azure.storage.blob.BlobClient;
import com.azure.storage.blob.BlobClientBuilder;
import com.azure.storage.blob.models.BlobErrorCode;
import com.azure.storage.blob.models.BlobStorageException;
import com.azure.storage.blob.models.ParallelTransferOptions;
import com.azure.storage.blob.options.BlobParallelUploadOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.FileUploadCompletionNotification;
import com.microsoft.azure.sdk.iot.device.FileUploadSasUriResponse;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubStatusCode;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.service.messaging.AcknowledgementType;
import com.microsoft.azure.sdk.iot.service.messaging.FileUploadNotification;
import com.microsoft.azure.sdk.iot.service.messaging.IotHubServiceClientProtocol;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Files that devices upload to the hub's own storage, and what back ends hear of it. */
class FileUploadTest {
    private static final int ACTIVE = 10;
    private static final int BLOCK = 1024 * 1024;
    private static final byte[] BYTES = "what happened yesterday".getBytes();

    private static Hub hub;
    private static Uploads notifications;
    private final List<DeviceClient> clients = new ArrayList<>();

    @BeforeAll
    static void listen() throws Exception {
        hub = Hubs.main();
        notifications = new Uploads(hub, IotHubServiceClientProtocol.AMQPS);
    }

    @AfterAll
    static void leave() throws Exception {
        notifications.close();
    }

    @AfterEach
    void close() {
        clients.forEach(DeviceClient::close);
    }

    /** The device SDK asks the hub over HTTPS, whatever else it speaks. */
    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void aDeviceUploadsAFileAndTheBackEndHearsOfIt(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = device.open(door);
        clients.add(client);
        Instant begin = hub.now().minusSeconds(1);
        Uploads.upload(client, "logs/yesterday.txt", BYTES);

        FileUploadNotification notification = notifications.of(device, 1).get(0);
        String name = device.id() + "/logs/yesterday.txt";
        assertEquals(name, notification.getBlobName());
        assertEquals(BYTES.length, notification.getBlobSizeInBytes());
        assertTrue(notification.getBlobUri().startsWith("https://"), notification.getBlobUri());
        assertTrue(notification.getBlobUri().endsWith("/" + name), notification.getBlobUri());
        assertFalse(notification.getLastUpdatedTimeDate().toInstant().isBefore(begin));
        assertFalse(notification.getEnqueuedTimeUtcDate().toInstant().isAfter(hub.now()));
        assertArrayEquals(BYTES, read(client, "logs/yesterday.txt"));
    }

    @Test
    void aPutOfTheBlobIsAllThatAnUploadNeeds() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = client(device);
        FileUploadSasUriResponse begun = Uploads.begin(client, "by-hand.txt");
        HttpURLConnection connection = (HttpURLConnection) begun.getBlobUri().toURL().openConnection();
        connection.setRequestMethod("PUT");
        connection.setRequestProperty("x-ms-blob-type", "BlockBlob");
        connection.setDoOutput(true);
        try (OutputStream body = connection.getOutputStream()) {
            body.write(BYTES);
        }
        assertEquals(201, connection.getResponseCode());
        Uploads.end(client, begun, true);
        assertEquals(BYTES.length, notifications.of(device, 1).get(0).getBlobSizeInBytes());
    }

    @Test
    void anUploadOfManyBlocksArrivesWhole() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = client(device);
        byte[] bytes = new byte[9 * BLOCK + 17];
        new Random(1).nextBytes(bytes);
        FileUploadSasUriResponse begun = Uploads.begin(client, "big.bin");
        ParallelTransferOptions blocks = new ParallelTransferOptions()
                .setBlockSizeLong((long) BLOCK).setMaxSingleUploadSizeLong((long) BLOCK).setMaxConcurrency(4);
        Uploads.blob(begun).uploadWithResponse(new BlobParallelUploadOptions(BinaryData.fromBytes(bytes))
                .setParallelTransferOptions(blocks), null, null);
        Uploads.end(client, begun, true);
        assertEquals(bytes.length, notifications.of(device, 1).get(0).getBlobSizeInBytes());
        assertArrayEquals(bytes, read(client, "big.bin"));
    }

    /** Names that the SDK can ask for: it refuses others itself, and writes a space as a plus sign. */
    @ParameterizedTest
    @ValueSource(strings = {"100%.txt", "it's(one).txt", "a+b&c=d;e.txt", "a/b/c/d.txt", "x#y?z.txt"})
    void aFileKeepsItsName(String name) throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = client(device);
        Uploads.upload(client, name, BYTES);
        assertEquals(device.id() + "/" + name, notifications.of(device, 1).get(0).getBlobName());
        assertArrayEquals(BYTES, read(client, name));
    }

    @Test
    void anUploadThatFailedIsToldToNobodyAndEnds() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = client(device);
        FileUploadSasUriResponse begun = Uploads.begin(client, "lost.txt");
        Uploads.end(client, begun, false);
        assertRefused(IotHubStatusCode.BAD_FORMAT, () -> Uploads.end(client, begun, true));
        Uploads.upload(client, "found.txt", BYTES);
        assertEquals(device.id() + "/found.txt", notifications.of(device, 1).get(0).getBlobName());
    }

    @Test
    void aFileThatIsNotThereIsNotCompleted() throws Exception {
        TestDevice device = TestDevice.on(hub);
        DeviceClient client = client(device);
        FileUploadSasUriResponse begun = Uploads.begin(client, "missing.txt");
        assertRefused(IotHubStatusCode.BAD_FORMAT, () -> Uploads.end(client, begun, true));
        Uploads.blob(begun).upload(BinaryData.fromBytes(BYTES));
        Uploads.end(client, begun, true);
        notifications.of(device, 1);
    }

    @Test
    void anUploadThatNeverBeganOrIsAnothersIsNotCompleted() throws Exception {
        DeviceClient client = client(TestDevice.on(hub));
        assertRefused(IotHubStatusCode.BAD_FORMAT, () -> client.completeFileUpload(new FileUploadCompletionNotification("no-such-upload", true)));
        FileUploadSasUriResponse anothers = Uploads.begin(client(TestDevice.on(hub)), "a.txt");
        assertRefused(IotHubStatusCode.BAD_FORMAT, () -> Uploads.end(client, anothers, false));
    }

    @Test
    void theEleventhUploadIsRefusedUntilOneEnds() throws Exception {
        DeviceClient client = client(TestDevice.on(hub));
        List<FileUploadSasUriResponse> begun = new ArrayList<>();
        for (int n = 0; n < ACTIVE; n++) {
            begun.add(Uploads.begin(client, n + ".txt"));
        }
        assertRefused(IotHubStatusCode.QUOTA_EXCEEDED, () -> Uploads.begin(client, "10.txt"));
        Uploads.begin(client(TestDevice.on(hub)), "0.txt");
        Uploads.end(client, begun.get(3), false);
        Uploads.begin(client, "10.txt");
    }

    @Test
    void aSasOpensItsOwnFileOnly() throws Exception {
        DeviceClient client = client(TestDevice.on(hub));
        FileUploadSasUriResponse mine = Uploads.begin(client, "mine.txt");
        FileUploadSasUriResponse other = Uploads.begin(client, "other.txt");
        BlobClient stranger = new BlobClientBuilder()
                .endpoint(other.getBlobUri().toString().replace(other.getSasToken(), mine.getSasToken())).buildClient();
        BlobStorageException refusal = assertThrows(BlobStorageException.class, () -> stranger.upload(BinaryData.fromBytes(BYTES)));
        assertEquals(403, refusal.getStatusCode());
        assertEquals(BlobErrorCode.AUTHENTICATION_FAILED, refusal.getErrorCode());
    }

    @Test
    void aStaleSasIsWorthNothing() throws Exception {
        try (Hub own = Hubs.own()) {
            TestDevice device = TestDevice.on(own);
            DeviceClient client = client(device);
            FileUploadSasUriResponse begun = Uploads.begin(client, "late.txt");
            Uploads.blob(begun).upload(BinaryData.fromBytes(BYTES));
            own.advance("61m");
            BlobStorageException refusal = assertThrows(BlobStorageException.class,
                    () -> Uploads.blob(begun).upload(BinaryData.fromBytes(BYTES), true));
            assertEquals(403, refusal.getStatusCode());
            own.advance("1h");
            assertRefused(IotHubStatusCode.BAD_FORMAT, () -> Uploads.end(client, begun, true));
        }
    }

    @ParameterizedTest
    @EnumSource(IotHubServiceClientProtocol.class)
    void aNotificationThatWasAbandonedComesAgain(IotHubServiceClientProtocol door) throws Exception {
        try (Hub own = Hubs.own()) {
            TestDevice device = TestDevice.on(own);
            Uploads.upload(client(device), "a.txt", BYTES);
            AtomicInteger deliveries = new AtomicInteger();
            try (Uploads hesitant = new Uploads(own, door, notification ->
                    deliveries.incrementAndGet() < 3 ? AcknowledgementType.ABANDON : AcknowledgementType.COMPLETE)) {
                List<FileUploadNotification> same = hesitant.of(device, 3);
                assertEquals(List.of("a.txt", "a.txt", "a.txt"), same.stream()
                        .map(notification -> notification.getBlobName().replaceFirst(".*/", "")).toList());
            }
        }
    }

    private DeviceClient client(TestDevice device) {
        DeviceClient client = device.client(IotHubClientProtocol.HTTPS);
        clients.add(client);
        return client;
    }

    /** What the storage holds under the name now, read with the SAS of an upload that is given up. */
    private static byte[] read(DeviceClient client, String name) throws Exception {
        FileUploadSasUriResponse begun = Uploads.begin(client, name);
        byte[] bytes = Uploads.blob(begun).downloadContent().toBytes();
        Uploads.end(client, begun, false);
        return bytes;
    }

    /** The SDK tells the status and keeps the body, with the code of the error, to itself. */
    private static void assertRefused(IotHubStatusCode status, Executable request) {
        assertEquals(status, assertThrows(IotHubClientException.class, request).getStatusCode());
    }
}
