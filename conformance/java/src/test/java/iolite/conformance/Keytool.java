package iolite.conformance;

import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/** The JDK's keytool, and stores that it wrote. All have one password. */
final class Keytool {
    private static final String PASSWORD = "changeit";

    private final Path directory;

    Keytool(Path directory) {
        this.directory = directory;
    }

    Path file(String name) {
        return directory.resolve(name);
    }

    /** Makes a key with a certificate that vouches for itself. */
    void genkeypair(String store, String alias, String commonName, String... more) throws Exception {
        List<String> arguments = new ArrayList<>(List.of("-dname", "CN=" + commonName, "-validity", "1", "-keyalg", "EC",
                "-groupname", "secp256r1", "-sigalg", "SHA256withECDSA"));
        arguments.addAll(List.of(more));
        run("-genkeypair", store, alias, arguments.toArray(String[]::new));
    }

    void run(String command, String store, String alias, String... more) throws Exception {
        List<String> arguments = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "keytool").toString(), command, "-alias", alias,
                "-storetype", "PKCS12", "-keystore", file(store).toString(), "-storepass", PASSWORD));
        arguments.addAll(List.of(more));
        Path log = file("keytool.log");
        Process keytool = new ProcessBuilder(arguments).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        if (keytool.waitFor() != 0) {
            throw new IllegalStateException(command + ": " + Files.readString(log));
        }
    }

    KeyStore load(String store) throws Exception {
        KeyStore loaded = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(file(store))) {
            loaded.load(in, PASSWORD.toCharArray());
        }
        return loaded;
    }

    /** Presents the key of a store, and trusts what this JVM trusts. */
    static SSLContext context(KeyStore store) throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, PASSWORD.toCharArray());
        SSLContext context = SSLContext.getInstance("TLSv1.2");
        context.init(keys.getKeyManagers(), null, null);
        return context;
    }
}
