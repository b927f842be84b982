package iolite.conformance;

import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.core.amqp.AmqpTransportType;
import com.azure.messaging.eventhubs.EventHubClientBuilder;

/** The ways of azure-messaging-eventhubs into the hub: TLS, WebSocket, and plain TCP for UseDevelopmentEmulator=true. */
enum EventHubDoor {
    AMQPS,
    AMQPS_WS,
    AMQP;

    EventHubClientBuilder builder(Hub hub) {
        return builder(connectionString(hub));
    }

    EventHubClientBuilder builder(String connectionString) {
        return Events.builder(connectionString, transport());
    }

    AmqpTransportType transport() {
        return this == AMQPS_WS ? AmqpTransportType.AMQP_WEB_SOCKETS : AmqpTransportType.AMQP;
    }

    String connectionString(Hub hub) {
        return this == AMQP ? hub.plainEventHub() : hub.eventHub();
    }

    /** A client that takes the first error for the last. */
    static EventHubClientBuilder once(EventHubClientBuilder builder) {
        return builder.retryOptions(new AmqpRetryOptions().setMaxRetries(0));
    }
}
