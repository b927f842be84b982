package iolite.conformance;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** A blob container that knows Put Blob and Get Blob, and one SAS. */
final class Container implements AutoCloseable {
    private static final String SAS = "sv=2021-08-06&sr=c&sp=rwl&sig=c2VjcmV0";

    private final HttpServer server;
    private final Map<String, String> blobs = new ConcurrentHashMap<>();

    Container() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/container/", this::answer);
        server.start();
    }

    String uri() {
        return "http://127.0.0.1:" + server.getAddress().getPort() + "/container?" + SAS;
    }

    void put(String name, String... lines) {
        blobs.put(name, String.join("\r\n", lines));
    }

    /** The lines of a blob; none when it is not there. */
    List<String> lines(String name) {
        return blobs.getOrDefault(name, "").lines().filter(line -> !line.isBlank()).toList();
    }

    private void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            String name = exchange.getRequestURI().getPath().substring("/container/".length());
            if (!String.valueOf(exchange.getRequestURI().getRawQuery()).contains("sig=c2VjcmV0")) {
                exchange.sendResponseHeaders(403, -1);
            } else if (exchange.getRequestMethod().equals("PUT")) {
                blobs.put(name, new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
                exchange.sendResponseHeaders(201, -1);
            } else if (blobs.containsKey(name)) {
                byte[] body = blobs.get(name).getBytes(StandardCharsets.UTF_8);
                exchange.sendResponseHeaders(200, body.length);
                exchange.getResponseBody().write(body);
            } else {
                exchange.sendResponseHeaders(404, -1);
            }
        }
    }

    @Override
    public void close() {
        server.stop(0);
    }
}
