package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.microsoft.azure.sdk.iot.device.ClientOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.util.Collections;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What a Java user does to reach a local hub: which name to use, and how to trust it. */
class TrustTest {
    private static final char[] PASSWORD = "changeit".toCharArray();

    private final Hub hub = Hubs.main();

    /** The SDK wants a dot in the host name. An address has dots, and the hub's certificate covers the address. */
    @Test
    void aHostNameWithoutADotIsRefusedByTheSdkItself() {
        assertThrows(IllegalArgumentException.class, () -> new DeviceClient(
                "HostName=localhost;DeviceId=d;SharedAccessKey=c2VjcmV0", IotHubClientProtocol.MQTT));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void theAddressItselfIsAHostName(IotHubClientProtocol door) throws Exception {
        TestDevice device = TestDevice.on(hub);
        assertTrue(device.connectionString().startsWith("HostName=127.0.0.4;"));
        assertSends(device, device.client(door));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void theExportedStoreIsATrustStore(IotHubClientProtocol door, @TempDir Path directory) throws Exception {
        Path file = directory.resolve("iolite.p12");
        Process export = new ProcessBuilder(Hubs.binary().toString(), "certs", "export",
                "--format", "p12", "--certs-dir", Hubs.certsDirectory().toString(), "--out", file.toString())
                .inheritIO().start();
        assertEquals(0, export.waitFor());
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(file)) {
            store.load(in, PASSWORD);
        }
        String alias = Collections.list(store.aliases()).get(0);
        assertTrue(store.isCertificateEntry(alias), "Java takes it for a trusted certificate");

        TestDevice device = TestDevice.on(hub);
        ClientOptions options = TestDevice.options(door).sslContext(trusting(store)).build();
        assertSends(device, new DeviceClient(device.connectionString(), door, options));
    }

    @ParameterizedTest
    @EnumSource(IotHubClientProtocol.class)
    void withoutTheCaTheClientRefusesTheHub(IotHubClientProtocol door) throws Exception {
        KeyStore jdk = KeyStore.getInstance(Path.of(System.getProperty("java.home"), "lib", "security", "cacerts").toFile(), PASSWORD);
        TestDevice device = TestDevice.on(hub);
        ClientOptions options = TestDevice.options(door).sslContext(trusting(jdk)).build();
        DeviceClient client = new DeviceClient(device.connectionString(), door, options);
        client.setRetryPolicy(new NoRetry());
        try {
            assertThrows(IotHubClientException.class, () -> {
                client.open(false);
                Messages.send(client, "unverified");
            });
        } finally {
            client.close();
        }
    }

    private void assertSends(TestDevice device, DeviceClient client) throws Exception {
        try {
            client.open(false);
            Messages.send(client, "verified");
        } finally {
            client.close();
        }
        assertEquals("verified", Events.all(hub).only(device).getBodyAsString());
    }

    private static SSLContext trusting(KeyStore store) throws Exception {
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLSv1.2");
        context.init(null, trust.getTrustManagers(), new SecureRandom());
        return context;
    }
}
