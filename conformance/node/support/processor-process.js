'use strict';

// An event processor in a process of its own. It tells its parent of each batch that it sees before it writes a checkpoint, and of the
// partitions that it gets and loses. After `stallAfter` batches of a partition it does not come back from the next.

const { EventHubConsumerClient } = require('@azure/event-hubs');
const { BlobCheckpointStore } = require('@azure/eventhubs-checkpointstore-blob');
const { ContainerClient } = require('@azure/storage-blob');

const { connectionString, container, group, name, startPosition, balancing, stallAfter = Infinity } = JSON.parse(process.argv[2]);

const client = new EventHubConsumerClient(group, connectionString, new BlobCheckpointStore(new ContainerClient(container)),
  { loadBalancingOptions: balancing, identifier: name, retryOptions: { retryDelayInMs: 50 } });
const batches = new Map(); // how many of a partition

client.subscribe({
  processInitialize: async ({ partitionId }) => { process.send({ opened: partitionId }); },
  processClose: async (reason, { partitionId }) => { process.send({ closed: partitionId, reason }); },
  processError: async (err, { partitionId }) => { process.send({ error: err.message, code: err.code, partitionId }); },
  processEvents: async (events, context) => {
    if (events.length === 0) return;
    const { partitionId } = context;
    process.send({ seen: events.map(({ sequenceNumber }) => ({ partitionId, sequenceNumber })) });
    const count = (batches.get(partitionId) ?? 0) + 1;
    batches.set(partitionId, count);
    if (count > stallAfter) {
      process.send({ stalled: partitionId });
      await new Promise(() => {});
    }
    await context.updateCheckpoint(events.at(-1));
  },
}, { maxBatchSize: 5, maxWaitTimeInSeconds: 0.2, startPosition });

process.on('message', () => client.close().then(() => process.exit(0)));
process.on('disconnect', () => process.exit(1));
process.send({ runs: true });
