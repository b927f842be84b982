package iolite.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URL;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.stream.StreamSupport;

/** One running Iolite: the real command on one loopback address and the documented ports. */
final class Hub implements AutoCloseable {
    private static final Duration READY = Duration.ofSeconds(20);
    private static final int LOG_TAIL_LINES = 80;
    private static final int CONTROL_MILLIS = 40_000;

    final String address;
    private final Path log;
    private final Process process;
    private final JsonObject info;

    /** Returns once /readyz answers 200; a hub that ends or hangs before that is an error. */
    static Hub start(Path binary, Path directory, String address, String... flags) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                binary.toString(), "serve",
                "--bind", address,
                "--hostname", address,
                "--control", address + ":8088",
                "--certs-dir", directory.resolve("certs").toString(),
                "--consumer-group", "a-group-of-its-own",
                "--strict-ports"));
        command.addAll(List.of(flags));
        Path log = directory.resolve(address + ".log");
        Process process = new ProcessBuilder(command)
                .redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile()))
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        try {
            awaitReady(address, process);
            Hub hub = new Hub(address, log, process);
            hub.requireCa(directory);
            return hub;
        } catch (Exception e) {
            process.destroyForcibly();
            throw new IllegalStateException(e.getMessage() + "; its log:\n" + tail(log), e);
        }
    }

    private Hub(String address, Path log, Process process) throws Exception {
        this.address = address;
        this.log = log;
        this.process = process;
        this.info = JsonParser.parseString(control("GET", "/iolite/v1/info", "")).getAsJsonObject();
    }

    /** Another hub on the same address would have been ready at once. */
    private void requireCa(Path directory) {
        Path ca = Path.of(info.get("ca").getAsString());
        if (!ca.startsWith(directory)) {
            throw new IllegalStateException("another hub, with the CA " + ca + ", has " + address);
        }
    }

    /** The connection string of the policy iothubowner. */
    String owner() {
        return info.get("connectionString").getAsString();
    }

    /** The connection string of any policy. */
    String policy(String name) {
        return StreamSupport.stream(info.getAsJsonArray("policies").spliterator(), false)
                .map(JsonElement::getAsJsonObject)
                .filter(policy -> policy.get("name").getAsString().equals(name))
                .findFirst().orElseThrow().get("connectionString").getAsString();
    }

    /** The connection string of the Event Hubs-compatible endpoint, over TLS. */
    String eventHub() {
        return info.get("eventHubsConnectionString").getAsString();
    }

    /** The same for clients that know UseDevelopmentEmulator: plain TCP on 5672. */
    String plainEventHub() {
        return info.get("emulatorConnectionString").getAsString();
    }

    /** The name of the built-in event hub. */
    String eventHubName() {
        return eventHub().replaceFirst(".*EntityPath=", "");
    }

    /** The connection string of another event hub, over TLS. */
    String eventHub(String name) {
        return eventHub().replaceFirst("EntityPath=.*", "EntityPath=" + name);
    }

    /** Makes an event hub beside the built-in one and returns its connection string. */
    String addEventHub(String name, int partitions) throws Exception {
        control("PUT", "/iolite/v1/eventhubs/" + name, "{\"partitions\":" + partitions + "}");
        return eventHub(name);
    }

    void removeEventHub(String name) throws Exception {
        control("DELETE", "/iolite/v1/eventhubs/" + name, "");
    }

    /** Makes a consumer group of the built-in event hub, with a name of its own. */
    String addConsumerGroup() throws Exception {
        String group = "group-" + UUID.randomUUID();
        control("PUT", consumerGroup(group), "");
        return group;
    }

    void removeConsumerGroup(String group) throws Exception {
        control("DELETE", consumerGroup(group), "");
    }

    /** How many readers a consumer group of the built-in event hub has. */
    int readers(String group) throws Exception {
        String described = control("GET", consumerGroup(group), "");
        return JsonParser.parseString(described).getAsJsonObject().getAsJsonArray("readers").size();
    }

    private String consumerGroup(String group) {
        return "/iolite/v1/eventhubs/" + eventHubName() + "/consumergroups/" + group;
    }

    /** Sets the whole routing, in the form of the property "routing" of an IoT hub in Azure Resource Manager. */
    void route(String routing) throws Exception {
        control("PUT", "/iolite/v1/routing", routing);
    }

    JsonObject routing() throws Exception {
        return JsonParser.parseString(control("GET", "/iolite/v1/routing", "")).getAsJsonObject();
    }

    /** The events that match a query of the control API, given as names and values; with timeout it waits for them. */
    List<JsonObject> find(String... query) throws Exception {
        StringBuilder path = new StringBuilder("/iolite/v1/events?");
        for (int n = 0; n < query.length; n += 2) {
            path.append(URLEncoder.encode(query[n], StandardCharsets.UTF_8)).append('=')
                    .append(URLEncoder.encode(query[n + 1], StandardCharsets.UTF_8)).append('&');
        }
        JsonObject found = JsonParser.parseString(control("GET", path.toString(), "")).getAsJsonObject();
        return StreamSupport.stream(found.getAsJsonArray("events").spliterator(), false)
                .map(JsonElement::getAsJsonObject).toList();
    }

    String device(String deviceId, String key) {
        return "HostName=" + address + ";DeviceId=" + deviceId + ";SharedAccessKey=" + key;
    }

    String caPem() throws Exception {
        return control("GET", "/iolite/v1/ca.pem", "");
    }

    /** Has the hub accept the certificates that an authority gives devices. */
    void register(Authority authority) throws Exception {
        control("POST", "/iolite/v1/cas", authority.pem());
    }

    Instant now() throws Exception {
        String clock = control("GET", "/iolite/v1/clock", "");
        return Instant.parse(JsonParser.parseString(clock).getAsJsonObject().get("now").getAsString());
    }

    /** Moves the hub's clock; everything that falls due on the way happens before this returns. */
    void advance(String duration) throws Exception {
        control("POST", "/iolite/v1/clock", "{\"advance\":\"" + duration + "\"}");
    }

    /** Cuts every connection of the device. */
    void cut(String deviceId) throws Exception {
        control("DELETE", "/iolite/v1/connections/" + deviceId, "");
    }

    /** How many polls of the device came too soon and were refused. */
    long refusedPolls(String deviceId) throws Exception {
        JsonObject listed = JsonParser.parseString(control("GET", "/iolite/v1/violations", "")).getAsJsonObject();
        return StreamSupport.stream(listed.getAsJsonArray("violations").spliterator(), false)
                .map(JsonElement::getAsJsonObject)
                .filter(violation -> violation.get("deviceId").getAsString().equals(deviceId))
                .filter(violation -> violation.get("refused").getAsBoolean())
                .count();
    }

    String logTail() {
        return tail(log);
    }

    @Override
    public void close() throws Exception {
        process.destroy();
        if (!process.waitFor(10, TimeUnit.SECONDS)) {
            process.destroyForcibly().waitFor();
        }
    }

    private static void awaitReady(String address, Process process) throws Exception {
        Instant deadline = Instant.now().plus(READY);
        while (!ready(address)) {
            if (!process.isAlive()) {
                throw new IllegalStateException("the hub ended with " + process.exitValue());
            }
            if (Instant.now().isAfter(deadline)) {
                throw new IllegalStateException("the hub was not ready after " + READY);
            }
            Thread.sleep(20);
        }
    }

    private static boolean ready(String address) {
        try {
            return open(address, "GET", "/readyz").getResponseCode() == 200;
        } catch (IOException e) {
            return false;
        }
    }

    private String control(String method, String path, String body) throws IOException {
        HttpAnswer answer = HttpAnswer.to(open(address, method, path), body);
        if (answer.status() >= 300) {
            throw new Refused(method + " " + path, answer);
        }
        return answer.body();
    }

    /** What the control API does not do. */
    static final class Refused extends IOException {
        final HttpAnswer answer;

        Refused(String request, HttpAnswer answer) {
            super(request + ": " + answer);
            this.answer = answer;
        }
    }

    /** Not java.net.http: its client settles this JVM's default SSLContext, before the CA is trusted. */
    private static HttpURLConnection open(String address, String method, String path) throws IOException {
        HttpURLConnection connection =
                (HttpURLConnection) new URL("http://" + address + ":8088" + path).openConnection();
        connection.setRequestMethod(method);
        connection.setConnectTimeout(CONTROL_MILLIS);
        connection.setReadTimeout(CONTROL_MILLIS);
        return connection;
    }

    private static String tail(Path log) {
        try {
            List<String> lines = Files.readAllLines(log);
            return String.join("\n", lines.subList(Math.max(0, lines.size() - LOG_TAIL_LINES), lines.size()));
        } catch (IOException e) {
            return "(no log: " + e.getMessage() + ")";
        }
    }
}
