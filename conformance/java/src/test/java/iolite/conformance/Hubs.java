package iolite.conformance;

import java.io.ByteArrayInputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Comparator;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestWatcher;

/**
 * The hubs that the suite runs against, started when first asked for and stopped with the last test.
 *
 * <p>Trust is given the way a user would: javax.net.ssl.trustStore names a store that holds the development CA. The
 * property must stand before anything in this JVM speaks TLS, so the main hub starts before the first test class.
 */
public final class Hubs implements BeforeAllCallback, TestWatcher {
    private static final Path REPOSITORY = Path.of("").toAbsolutePath().getParent().getParent();
    private static final Map<String, Hub> RUNNING = new ConcurrentHashMap<>();
    private static Path directory;
    private static Path binary;

    /** The hub that every test shares. Its clock is never moved: the SDKs' tokens live by the real time. */
    static Hub main() {
        return running("127.0.0.4");
    }

    /** A hub for the tests that move its clock. */
    static Hub moved() {
        return running("127.0.4.4");
    }

    /** A hub that lets devices poll as often as they like. */
    static Hub lenient() {
        return running("127.0.5.4", "--http-poll", "log");
    }

    /** A hub for one test or test class alone, which closes it: its clock, its routing and its queues are theirs. */
    static Hub own(String... flags) throws Exception {
        Hub hub = Hub.start(binary, directory, "127.0.6.4", flags);
        RUNNING.put(hub.address, hub);
        return hub;
    }

    /** The command under test: IOLITE_BIN, or a fresh build of this repository. */
    static Path binary() {
        return binary;
    }

    static Path certsDirectory() {
        return directory.resolve("certs");
    }

    @Override
    public void beforeAll(ExtensionContext context) {
        context.getRoot().getStore(ExtensionContext.Namespace.GLOBAL)
                .getOrComputeIfAbsent(Hubs.class, key -> open());
    }

    @Override
    public void testFailed(ExtensionContext context, Throwable cause) {
        System.err.println(context.getDisplayName() + " failed: " + cause);
        RUNNING.values().forEach(hub ->
                System.err.println("--- log of the hub on " + hub.address + "\n" + hub.logTail()));
    }

    private static ExtensionContext.Store.CloseableResource open() {
        try {
            directory = Files.createTempDirectory("iolite-java");
            binary = build();
            trust(main().caPem());
            return Hubs::close;
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private static void close() throws Exception {
        for (Hub hub : RUNNING.values()) {
            hub.close();
        }
        try (Stream<Path> files = Files.walk(directory)) {
            files.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        }
    }

    private static Hub running(String address, String... flags) {
        return RUNNING.computeIfAbsent(address, key -> {
            try {
                return Hub.start(binary, directory, address, flags);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
    }

    private static Path build() throws Exception {
        String given = System.getenv("IOLITE_BIN");
        if (given != null && !given.isEmpty()) {
            return Path.of(given).toAbsolutePath();
        }
        Path built = directory.resolve("emulator");
        Process go = new ProcessBuilder("go", "build", "-o", built.toString(), "./cmd/emulator")
                .directory(REPOSITORY.toFile())
                .inheritIO()
                .start();
        if (go.waitFor() != 0) {
            throw new IllegalStateException("go build failed");
        }
        return built;
    }

    private static void trust(String caPem) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        store.setCertificateEntry("iolite", CertificateFactory.getInstance("X.509")
                .generateCertificate(new ByteArrayInputStream(caPem.getBytes(StandardCharsets.US_ASCII))));
        Path file = directory.resolve("trust.p12");
        try (OutputStream out = Files.newOutputStream(file)) {
            store.store(out, "changeit".toCharArray());
        }
        System.setProperty("javax.net.ssl.trustStore", file.toString());
        System.setProperty("javax.net.ssl.trustStorePassword", "changeit");
        System.setProperty("javax.net.ssl.trustStoreType", "PKCS12");
    }
}
