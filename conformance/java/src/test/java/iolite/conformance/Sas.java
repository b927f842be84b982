package iolite.conformance;

import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Shared access signatures as the articles have them; what is signed is the expiry in seconds and the encoded resource. */
final class Sas {
    /** A device's token. Its key is in base64. */
    static String token(String resource, String key, Instant expiry) throws Exception {
        return token(resource, Base64.getDecoder().decode(key), expiry);
    }

    /** A policy's token for the service API. */
    static String policyToken(Hub hub, String policy) throws Exception {
        String key = part(hub.policy(policy), "SharedAccessKey");
        return token(hub.address, key, Instant.now().plusSeconds(3600)) + "&skn=" + policy;
    }

    /** A policy's token for Event Hubs clients, who sign with the text of the key. */
    static String eventHubsToken(Hub hub, String resource, String policy, Instant expiry) throws Exception {
        byte[] key = part(hub.policy(policy), "SharedAccessKey").getBytes(StandardCharsets.UTF_8);
        return token("sb://" + hub.address + "/" + resource, key, expiry) + "&skn=" + policy;
    }

    private static String token(String resource, byte[] key, Instant expiry) throws Exception {
        String encoded = URLEncoder.encode(resource, StandardCharsets.UTF_8);
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        byte[] signature = mac.doFinal((encoded + "\n" + expiry.getEpochSecond()).getBytes(StandardCharsets.UTF_8));
        return "SharedAccessSignature sr=" + encoded
                + "&sig=" + URLEncoder.encode(Base64.getEncoder().encodeToString(signature), StandardCharsets.UTF_8)
                + "&se=" + expiry.getEpochSecond();
    }

    private static String part(String connectionString, String name) {
        return connectionString.replaceFirst(".*" + name + "=([^;]*).*", "$1");
    }

    private Sas() {}
}
