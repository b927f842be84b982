'use strict';

// Telemetry as a back end reads it: with the Event Hubs client, from the hub's Event Hubs-compatible endpoint.

const { EventHubConsumerClient } = require('@azure/event-hubs');
const { Inbox } = require('./inbox');
const service = require('./service');

const NO_RETRY = { maxRetries: 0, timeoutInMs: 10_000 };

/** An Event Hubs client, closed when the test ends; with a `store` of checkpoints, if one is given. */
function consumer(t, { group = '$Default', connectionString = service.eventHubs, store, ...options } = {}) {
  const client = new EventHubConsumerClient(group, connectionString, ...(store ? [store] : []), { retryOptions: NO_RETRY, ...options });
  t.after(() => client.close());
  return client;
}

/**
 * Everything that any device sends from now on, sorted by device: reader.of(deviceId) is that device's Inbox of events, each
 * with the partition it came from.
 */
class Reader {
  #byDevice = new Map();
  #failure = null;

  static async open(t, options = {}) {
    const reader = new Reader();
    const client = consumer(t, options);
    client.subscribe({
      processEvents: async (events, context) => {
        for (const event of events) {
          const deviceId = event.systemProperties['iothub-connection-device-id'];
          reader.of(deviceId).put({ ...event, partitionId: context.partitionId, raw: event.getRawAmqpMessage() });
        }
      },
      processError: async (err) => {
        reader.#failure = err;
        for (const inbox of reader.#byDevice.values()) inbox.fail(err);
      },
    }, { startPosition: await ends(client), maxBatchSize: 200, maxWaitTimeInSeconds: 1, skipParsingBodyAsJson: true });
    return reader;
  }

  of(deviceId) {
    let inbox = this.#byDevice.get(deviceId);
    if (!inbox) {
      inbox = new Inbox(`event of ${deviceId}`);
      if (this.#failure) inbox.fail(this.#failure);
      this.#byDevice.set(deviceId, inbox);
    }
    return inbox;
  }
}

/** Where each partition ends now. Unlike `latestEventPosition` it does not depend on when the reader's links are up. */
async function ends(client) {
  const ids = await client.getPartitionIds();
  const partitions = await Promise.all(ids.map((id) => client.getPartitionProperties(id)));
  return Object.fromEntries(partitions.map((p) => [p.partitionId, { sequenceNumber: p.lastEnqueuedSequenceNumber }]));
}

module.exports = { NO_RETRY, consumer, Reader };
