package iolite.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.amqp.exception.AmqpErrorCondition;
import com.azure.core.amqp.exception.AmqpException;
import com.azure.core.credential.AzureNamedKeyCredential;
import com.azure.core.credential.AzureSasCredential;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.EventHubConsumerClient;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What a SAS for the Event Hubs-compatible endpoint may be over, and what it then opens. */
class EventHubRightsTest {
    private static final Set<AmqpErrorCondition> REFUSED = Set.of(
            AmqpErrorCondition.UNAUTHORIZED_ACCESS, AmqpErrorCondition.NOT_FOUND);

    private static Hub hub;
    private static Sent sent;

    @BeforeAll
    static void send() throws Exception {
        hub = Hubs.main();
        sent = Sent.to(hub, 1);
    }

    @Test
    void aSasOverTheHubOrTheEventHubOpensAllOfIt() throws Exception {
        for (String token : List.of(Sas.policyToken(hub, "service"), over("{event hub}", "service", 3600))) {
            try (EventHubConsumerClient client = builder(withToken(token)).buildConsumerClient()) {
                assertEquals(hub.eventHubName(), client.getEventHubProperties().getName());
            }
            assertReads(builder(withToken(token)));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"{event hub}/ConsumerGroups/$Default", "{event hub}/ConsumerGroups/$Default/Partitions/{partition}"})
    void aSasOverAConsumerGroupOrAPartitionOpensThatOnly(String resource) throws Exception {
        String connectionString = withToken(over(resource, "service", 3600));
        assertReads(builder(connectionString));
        try (EventHubConsumerClient client = builder(connectionString).buildConsumerClient()) {
            assertRefused(assertThrows(AmqpException.class, client::getEventHubProperties));
        }
        try (Events events = Events.from(builder(connectionString).consumerGroup("a-group-of-its-own"), sent.partition(),
                sent.start())) {
            assertRefused(events.error());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"other", "{event hub}x", "{event hub}/ConsumerGroups/other",
        "{event hub}/ConsumerGroups/$Default/Partitions/99"})
    void aSasOverSomethingElseOpensNothing(String resource) throws Exception {
        assertReadsNothing(withToken(over(resource, "service", 3600)));
    }

    @Test
    void aStaleSasAndOneOfAPolicyThatMayNotReadOpenNothing() throws Exception {
        assertReadsNothing(withToken(over("{event hub}", "service", -3600)));
        assertReadsNothing(withToken(over("{event hub}", "registryReadWrite", 3600)));
    }

    @ParameterizedTest
    @EnumSource(EventHubDoor.class)
    void aSasIsTakenThroughEveryDoor(EventHubDoor door) throws Exception {
        String connectionString = door.connectionString(hub)
                .replaceFirst("SharedAccessKeyName=[^;]*;SharedAccessKey=[^;]*",
                        "SharedAccessSignature=" + over("{event hub}", "service", 3600).replace("$", "\\$"));
        assertReads(EventHubDoor.once(door.builder(connectionString)));
    }

    @Test
    void credentialsOfTheirOwnOpenTheEventHub() throws Exception {
        String key = hub.policy("service").replaceFirst(".*SharedAccessKey=", "");
        assertReads(EventHubDoor.once(new EventHubClientBuilder().consumerGroup("$Default")
                .credential(hub.address, hub.eventHubName(), new AzureNamedKeyCredential("service", key))));
        assertReads(EventHubDoor.once(new EventHubClientBuilder().consumerGroup("$Default")
                .credential(hub.address, hub.eventHubName(), new AzureSasCredential(over("{event hub}", "service", 3600)))));
    }

    /** A SAS over a path, in which {event hub} and {partition} stand for those of this test. */
    private static String over(String resource, String policy, int seconds) throws Exception {
        String path = resource.replace("{event hub}", hub.eventHubName()).replace("{partition}", sent.partition());
        return Sas.eventHubsToken(hub, path, policy, Instant.now().plusSeconds(seconds));
    }

    private static String withToken(String token) {
        return "Endpoint=sb://" + hub.address + "/;SharedAccessSignature=" + token + ";EntityPath=" + hub.eventHubName();
    }

    private static EventHubClientBuilder builder(String connectionString) {
        return EventHubDoor.once(EventHubDoor.AMQPS.builder(connectionString));
    }

    private static void assertReads(EventHubClientBuilder builder) throws Exception {
        try (Events events = Events.from(builder, sent.partition(), sent.start())) {
            assertEquals(sent.bodies(0), Events.bodies(events.of(sent.device(), 1)));
        }
    }

    private static void assertReadsNothing(String connectionString) throws Exception {
        try (EventHubConsumerClient client = builder(connectionString).buildConsumerClient();
                Events events = Events.from(builder(connectionString), sent.partition(), sent.start())) {
            assertRefused(assertThrows(AmqpException.class, client::getEventHubProperties));
            assertRefused(events.error());
        }
    }

    private static void assertRefused(Throwable failure) {
        AmqpException refusal = assertInstanceOf(AmqpException.class, failure);
        assertTrue(REFUSED.contains(refusal.getErrorCondition()), refusal.toString());
    }
}
