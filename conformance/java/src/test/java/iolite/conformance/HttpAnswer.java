package iolite.conformance;

import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.nio.charset.StandardCharsets;

/** What came back for an HTTP request, whatever its status. */
record HttpAnswer(int status, String body) {
    /** Sends the request; with a body it is JSON. */
    static HttpAnswer to(HttpURLConnection connection, String body) throws IOException {
        if (!body.isEmpty()) {
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setDoOutput(true);
            connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        }
        int status = connection.getResponseCode();
        try (InputStream answer = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            byte[] bytes = answer == null ? new byte[0] : answer.readAllBytes();
            return new HttpAnswer(status, new String(bytes, StandardCharsets.UTF_8));
        }
    }
}
