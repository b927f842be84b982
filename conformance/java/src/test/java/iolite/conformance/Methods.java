package iolite.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.device.InternalClient;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodRequestOptions;
import java.util.Map;
import java.util.function.BiFunction;

/** Direct methods as device, module and service clients use them. */
final class Methods {
    private static final int MILLIS = 30_000;

    /** Calls that wait for nobody to connect. The SDK's own default is to wait 200 s. */
    static final DirectMethodRequestOptions NOW = with(null);

    static DirectMethodRequestOptions with(Object payload) {
        return options(payload, 0, 30);
    }

    static DirectMethodRequestOptions options(Object payload, int connectSeconds, int responseSeconds) {
        return DirectMethodRequestOptions.builder()
                .payload(payload)
                .methodConnectTimeoutSeconds(connectSeconds)
                .methodResponseTimeoutSeconds(responseSeconds)
                .build();
    }

    /** Answers every method with what handler makes of its name and payload. */
    static void answer(InternalClient client, BiFunction<String, JsonElement, DirectMethodResponse> handler) throws Exception {
        client.subscribeToMethods(
                (name, payload, context) -> handler.apply(name, payload.getPayloadAsJsonElement()), null, MILLIS);
    }

    /** Answers every method with 200, its name and its payload. */
    static void echo(InternalClient client) throws Exception {
        answer(client, (name, payload) -> new DirectMethodResponse(200, Map.of("name", name, "payload", payload)));
    }

    /** What echo answers. */
    static JsonElement echoed(com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse response) {
        JsonElement payload = response.getPayloadAsJsonElement().getAsJsonObject().get("payload");
        return payload == null ? JsonNull.INSTANCE : payload;
    }

    static JsonElement json(String text) {
        return JsonParser.parseString(text);
    }

    private Methods() {}
}
