package iolite.conformance;

import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.UUID;
import javax.net.ssl.SSLContext;

/** A device certificate that vouches for itself. */
final class SelfSigned {
    private final KeyStore store;

    SelfSigned(Path directory) throws Exception {
        Keytool keytool = new Keytool(directory);
        String file = UUID.randomUUID() + ".p12";
        keytool.genkeypair(file, "device", "device");
        store = keytool.load(file);
    }

    String thumbprint(String hash) throws Exception {
        byte[] certificate = store.getCertificate("device").getEncoded();
        return HexFormat.of().withUpperCase().formatHex(MessageDigest.getInstance(hash).digest(certificate));
    }

    SSLContext context() throws Exception {
        return Keytool.context(store);
    }
}
