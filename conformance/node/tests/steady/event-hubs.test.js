'use strict';

// The Event Hubs-compatible endpoint, read by the Event Hubs SDK: over TLS, without TLS as the Event Hubs emulator is, and
// over WebSocket.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const WebSocket = require('ws');
const { earliestEventPosition, latestEventPosition } = require('@azure/event-hubs');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { Inbox } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { Reader, consumer } = require('../../support/telemetry');
const { message } = service;

const NOT_FOUND = ['ServiceCommunicationError', 'MessagingEntityNotFoundError']; // the SDK's two names for amqp:not-found
const OUT_OF_RANGE = ['ArgumentOutOfRangeError'];

const ENDPOINTS = {
  'TLS': () => ({ connectionString: service.eventHubs }),
  'no TLS': () => ({ connectionString: service.eventHubsPlain }),
  'WebSocket': () => ({ connectionString: service.eventHubs, webSocketOptions: { webSocket: WebSocket } }),
};

const file = fileScope();
let device;
let deviceClient;
let reader;
let sent; // six events of one device, the last three enqueued later than the first three

before(async () => {
  await service.load();
  device = await devices.create();
  deviceClient = await devices.connect(file, speaking('amqp')[0], device);
  reader = await Reader.open(file);
  sent = [];
  for (const half of [[0, 1, 2], [3, 4, 5]]) {
    for (const i of half) await deviceClient.sendEvent(message(JSON.stringify({ index: i })));
    sent.push(...await reader.of(device.deviceId).takeMany(half.length));
    const { enqueuedTimeUtc } = sent.at(-1);
    await hub.until('the clock has ticked', async () => (await hub.now()) - enqueuedTimeUtc > 1);
  }
});

/** The events of this file's device in its partition, from a position on. */
function readFrom(t, startPosition, options = {}) {
  const inbox = new Inbox('event');
  const client = consumer(t, options);
  client.subscribe(sent[0].partitionId, {
    processEvents: async (events, context) => {
      for (const event of events) {
        if (event.systemProperties['iothub-connection-device-id'] === device.deviceId) inbox.put({ ...event, context });
      }
    },
    processError: async (err) => inbox.fail(err),
  }, { startPosition, maxWaitTimeInSeconds: 1, ...options.subscribe });
  return inbox;
}

/** The first error of a subscription that cannot work. */
function failure(client, partitionId = '0') {
  return new Promise((resolve) => {
    client.subscribe(partitionId, { processEvents: async () => {}, processError: async (err) => resolve(err) },
      { startPosition: earliestEventPosition });
  });
}

const index = (event) => event.body.index;
const withEntity = (entity) => service.eventHubs.replace(/EntityPath=[^;]+/, `EntityPath=${entity}`);

for (const [name, endpoint] of Object.entries(ENDPOINTS)) {
  describe(`the Event Hubs endpoint over ${name}`, () => {
    test('says its name, its age and its partitions', async (t) => {
      const properties = await consumer(t, endpoint()).getEventHubProperties();
      assert.equal(properties.name, /EntityPath=([^;]+)/.exec(service.eventHubs)[1]);
      assert.deepEqual(properties.partitionIds, ['0', '1', '2', '3']);
      assert.ok(properties.createdOn <= await hub.now());
      assert.ok(properties.createdOn > new Date('2020-01-01'));
    });

    test('describes a partition', async (t) => {
      const last = sent.at(-1);
      const partition = await consumer(t, endpoint()).getPartitionProperties(last.partitionId);
      assert.equal(partition.partitionId, last.partitionId);
      assert.equal(partition.isEmpty, false);
      assert.equal(partition.beginningSequenceNumber, 0);
      assert.equal(partition.lastEnqueuedSequenceNumber, last.sequenceNumber);
      assert.equal(partition.lastEnqueuedOffset, last.offset);
      assert.deepEqual(partition.lastEnqueuedOnUtc, last.enqueuedTimeUtc);
    });

    test('reads telemetry, and the SDK takes a JSON body apart', async (t) => {
      const events = await readFrom(t, earliestEventPosition, endpoint()).takeMany(sent.length);
      assert.deepEqual(events.map(index), [0, 1, 2, 3, 4, 5]);
    });
  });
}

describe('where a reader starts', () => {
  const positions = {
    'the earliest event': [() => earliestEventPosition, 0],
    'after an offset': [() => ({ offset: sent[2].offset }), 3],
    'at an offset': [() => ({ offset: sent[2].offset, isInclusive: true }), 2],
    'after a sequence number': [() => ({ sequenceNumber: sent[3].sequenceNumber }), 4],
    'at a sequence number': [() => ({ sequenceNumber: sent[3].sequenceNumber, isInclusive: true }), 3],
    'after an enqueued time': [() => ({ enqueuedOn: sent[2].enqueuedTimeUtc }), 3],
    'after a moment between two events': [() => ({ enqueuedOn: new Date(sent[3].enqueuedTimeUtc.getTime() - 1) }), 3],
  };
  for (const [what, [position, first]] of Object.entries(positions)) {
    test(what, async (t) => {
      const events = await readFrom(t, position()).takeMany(sent.length - first);
      assert.deepEqual(events.map(index), [0, 1, 2, 3, 4, 5].slice(first));
    });
  }

  test('the latest event: nothing that was there before', async (t) => {
    const inbox = readFrom(t, latestEventPosition);
    // The SDK does not say when its link stands, so the device speaks until it is heard.
    let heard;
    const speaker = devicesSpeaker(await devices.connect(t, speaking('http')[0], device));
    inbox.take().then((event) => { heard = event; });
    await hub.until('an event was heard', async () => {
      if (!heard) await speaker();
      return heard;
    });
    assert.equal(typeof heard.body.marker, 'number');
  });
});

function devicesSpeaker(client) {
  let marker = 0;
  return () => client.sendEvent(message(JSON.stringify({ marker: ++marker })));
}

describe('readers', () => {
  test('of different consumer groups, and of the same one, each get every event', async (t) => {
    const inboxes = ['$Default', '$default', 'dashboard', 'archive'].map((group) => readFrom(t, earliestEventPosition, { group }));
    inboxes.push(readFrom(t, earliestEventPosition));
    for (const inbox of inboxes) {
      assert.deepEqual((await inbox.takeMany(sent.length)).map(index), [0, 1, 2, 3, 4, 5]);
    }
  });

  test('learn how far the partition has got, when they ask', async (t) => {
    const inbox = readFrom(t, earliestEventPosition, { subscribe: { trackLastEnqueuedEventProperties: true } });
    const [event] = await inbox.takeMany(1);
    const last = event.context.lastEnqueuedEventProperties;
    assert.equal(typeof last.sequenceNumber, 'number');
    assert.ok(last.sequenceNumber >= sent.at(-1).sequenceNumber);
    assert.equal(typeof last.offset, 'string');
    assert.ok(last.enqueuedOn >= sent.at(-1).enqueuedTimeUtc);
    assert.ok(last.retrievedOn instanceof Date);
  });

  test('find each event in one partition only', async (t) => {
    const { partitionIds } = await consumer(t).getEventHubProperties();
    const client = consumer(t);
    for (const id of partitionIds) {
      const partition = await client.getPartitionProperties(id);
      assert.equal(partition.partitionId, id);
      assert.equal(partition.isEmpty, partition.lastEnqueuedSequenceNumber < partition.beginningSequenceNumber);
    }
  });
});

describe('what is not there', () => {
  test('another event hub', async (t) => {
    const nowhere = { connectionString: withEntity('nowhere') };
    await assert.rejects(consumer(t, nowhere).getEventHubProperties(), (err) => isOneOf(NOT_FOUND, err));
    isOneOf(NOT_FOUND, await failure(consumer(t, nowhere)));
  });

  test('another partition', async (t) => {
    await assert.rejects(consumer(t).getPartitionProperties('99'), (err) => isOneOf([...OUT_OF_RANGE, ...NOT_FOUND], err));
    isOneOf(OUT_OF_RANGE, await failure(consumer(t), '99'));
  });
});

function isOneOf(codes, err) {
  assert.ok(codes.includes(err.code), `${err.code} (${err.message}) is one of ${codes}`);
  return true;
}
