package iolite.conformance;

import java.nio.file.Files;
import java.nio.file.Path;
import javax.net.ssl.SSLContext;

/** A certificate authority for devices. */
final class Authority {
    private static final String STORE = "authority.p12";

    private final Keytool keytool;

    Authority(Path directory) throws Exception {
        keytool = new Keytool(directory);
        keytool.genkeypair(STORE, "authority", "Java devices", "-ext", "bc:c=ca:true");
        keytool.run("-exportcert", STORE, "authority", "-rfc", "-file", certificate().toString());
    }

    String pem() throws Exception {
        return Files.readString(certificate());
    }

    /** Presents a certificate that this authority gave a device. */
    SSLContext context(String deviceId) throws Exception {
        String store = deviceId + ".p12";
        Path request = keytool.file(deviceId + ".csr");
        Path signed = keytool.file(deviceId + ".pem");
        keytool.genkeypair(store, "device", deviceId);
        keytool.run("-certreq", store, "device", "-file", request.toString());
        keytool.run("-gencert", STORE, "authority", "-rfc", "-infile", request.toString(), "-outfile", signed.toString());
        keytool.run("-importcert", store, "authority", "-noprompt", "-file", certificate().toString());
        keytool.run("-importcert", store, "device", "-noprompt", "-file", signed.toString());
        return Keytool.context(keytool.load(store));
    }

    private Path certificate() {
        return keytool.file("authority.pem");
    }
}
