'use strict';

// Producers of the Event Hubs SDK at an event hub beside the built-in one, as an application that feeds it has them.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const WebSocket = require('ws');
const { EventHubBufferedProducerClient, EventHubProducerClient, earliestEventPosition } = require('@azure/event-hubs');
const eventHubs = require('../../support/event-hubs');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { fileScope } = require('../../support/scope');
const { Subscription } = require('../../support/events');
const { NO_RETRY, consumer } = require('../../support/telemetry');

const NAME = 'produced';
const PARTITIONS = ['0', '1', '2'];

const file = fileScope();
let connectionString;

before(async () => {
  await service.load();
  await eventHubs.put(file, NAME, { partitions: PARTITIONS.length });
  connectionString = eventHubs.connectionString(NAME);
});

function producer(t, options = {}) {
  const client = new EventHubProducerClient(options.connectionString ?? connectionString, { retryOptions: NO_RETRY, ...options });
  t.after(() => client.close());
  return client;
}

/** Readers of what comes to each partition from now on. */
async function listen(t) {
  const client = consumer(t, { connectionString });
  return Promise.all(PARTITIONS.map(async (id) => {
    const { lastEnqueuedSequenceNumber } = await client.getPartitionProperties(id);
    const startPosition = lastEnqueuedSequenceNumber < 0 ? earliestEventPosition : { sequenceNumber: lastEnqueuedSequenceNumber };
    return new Subscription(t, id, { connectionString, startPosition }).events;
  }));
}

const numbered = (count) => Array.from({ length: count }, (_, n) => ({ body: { n } }));
const numbers = (events) => events.map((event) => event.body.n);

describe('a producer', () => {
  const doors = {
    'TLS': () => ({}),
    'no TLS': () => ({ connectionString: service.eventHubsPlain.replace(/EntityPath=[^;]+/, `EntityPath=${NAME}`) }),
    'WebSocket': () => ({ webSocketOptions: { webSocket: WebSocket } }),
  };
  for (const [door, options] of Object.entries(doors)) {
    test(`over ${door} sends to the partition that it names, in order`, async (t) => {
      const [, events] = await listen(t);
      const client = producer(t, options());
      await client.sendBatch(numbered(5), { partitionId: '1' });
      await client.sendBatch([{ body: { n: 5 } }], { partitionId: '1' });
      assert.deepEqual(numbers(await events.takeMany(6)), [0, 1, 2, 3, 4, 5]);
    });
  }

  test('keeps together what has one partition key', async (t) => {
    const inboxes = await listen(t);
    const client = producer(t);
    for (let n = 0; n < 4; n++) await client.sendBatch([{ body: { n } }], { partitionKey: 'engine-7' });
    const filled = await hub.until('all are in one partition', () => inboxes.find((inbox) => inbox.left === 4));
    const events = await filled.takeMany(4);
    assert.deepEqual(numbers(events), [0, 1, 2, 3]);
    assert.deepEqual(events.map((event) => event.partitionKey), Array(4).fill('engine-7'));
  });

  test('that names neither reaches every partition in turn', async (t) => {
    const inboxes = await listen(t);
    const client = producer(t);
    for (const _ of PARTITIONS) await client.sendBatch([{ body: { n: 1 } }]);
    for (const inbox of inboxes) assert.deepEqual(numbers(await inbox.takeMany(1)), [1]);
  });

  test('sends properties along, and bytes as they are', async (t) => {
    const [events] = await listen(t);
    const bytes = Buffer.from([0, 255, 1]);
    await producer(t).sendBatch([{ body: bytes, messageId: 'm-1', correlationId: 'c-1', contentType: 'application/octet-stream', properties: { room: 'kitchen' } }], { partitionId: '0' });
    const event = await events.take();
    assert.deepEqual(event.body, bytes);
    assert.equal(event.messageId, 'm-1');
    assert.equal(event.correlationId, 'c-1');
    assert.equal(event.contentType, 'application/octet-stream');
    assert.deepEqual(event.properties, { room: 'kitchen' });
    assert.ok(event.enqueuedTimeUtc <= await hub.now());
  });

  test('fills a batch up to a megabyte, and is refused more', async (t) => {
    const [, , events] = await listen(t);
    const client = producer(t);
    const batch = await client.createBatch({ partitionId: '2' });
    assert.equal(batch.maxSizeInBytes, 1024 * 1024);
    let count = 0;
    while (batch.tryAdd({ body: Buffer.alloc(200_000, 'x') })) count++;
    assert.equal(count, 5);
    await client.sendBatch(batch);
    assert.deepEqual((await events.takeMany(count)).map((event) => event.body.length), Array(count).fill(200_000));
    await assert.rejects(client.sendBatch([{ body: Buffer.alloc(1024 * 1024) }]), { code: 'MessageTooLargeError' });
  });

  test('with a buffer of its own delivers all of it', async (t) => {
    const inboxes = await listen(t);
    const failures = [];
    const client = new EventHubBufferedProducerClient(connectionString, { onSendEventsErrorHandler: async ({ error }) => failures.push(error), maxWaitTimeInMs: 50 });
    client._backgroundManagementInterval = 100; // it looks for new partitions, and its close does not stop the wait of ten seconds for that
    for (let n = 0; n < 300; n++) await client.enqueueEvent({ body: { n } });
    await client.close({ flush: true });
    assert.deepEqual(failures, []);
    await hub.until('all have come', () => inboxes.reduce((sum, inbox) => sum + inbox.left, 0) === 300);
    const all = (await Promise.all(inboxes.map((inbox) => inbox.takeMany(inbox.left)))).flat();
    assert.deepEqual(numbers(all).sort((a, b) => a - b), Array.from({ length: 300 }, (_, n) => n));
  });

  test('describes its event hub', async (t) => {
    const client = producer(t);
    assert.deepEqual((await client.getEventHubProperties()).partitionIds, PARTITIONS);
    assert.equal((await client.getPartitionProperties('0')).eventHubName, NAME);
  });

  test('is refused a partition that is not there, and a policy that may not', async (t) => {
    await assert.rejects(producer(t).sendBatch(numbered(1), { partitionId: '3' }), { code: 'ArgumentOutOfRangeError' });
    const { primaryKey } = service.policies.registryRead;
    const other = connectionString.replace(/SharedAccessKeyName=[^;]+;SharedAccessKey=[^;]+/, `SharedAccessKeyName=registryRead;SharedAccessKey=${primaryKey}`);
    await assert.rejects(producer(t, { connectionString: other }).sendBatch(numbered(1)), { code: 'UnauthorizedError' });
  });
});
