package iolite.conformance;

import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.UUID;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/** A device certificate that vouches for itself, made with the JDK's keytool. */
final class SelfSigned {
    private static final String PASSWORD = "changeit";

    private final KeyStore store;

    SelfSigned(Path directory) throws Exception {
        Path file = directory.resolve(UUID.randomUUID() + ".p12");
        Path log = directory.resolve("keytool.log");
        Process keytool = new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
                "-genkeypair", "-alias", "device", "-dname", "CN=device", "-validity", "1",
                "-keyalg", "EC", "-groupname", "secp256r1", "-sigalg", "SHA256withECDSA",
                "-storetype", "PKCS12", "-keystore", file.toString(), "-storepass", PASSWORD)
                .redirectErrorStream(true).redirectOutput(log.toFile()).start();
        if (keytool.waitFor() != 0) {
            throw new IllegalStateException(Files.readString(log));
        }
        store = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(file)) {
            store.load(in, PASSWORD.toCharArray());
        }
    }

    String thumbprint(String hash) throws Exception {
        byte[] certificate = store.getCertificate("device").getEncoded();
        return HexFormat.of().withUpperCase().formatHex(MessageDigest.getInstance(hash).digest(certificate));
    }

    /** Presents the certificate, and trusts what this JVM trusts. */
    SSLContext context() throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, PASSWORD.toCharArray());
        SSLContext context = SSLContext.getInstance("TLSv1.2");
        context.init(keys.getKeyManagers(), null, null);
        return context;
    }
}
