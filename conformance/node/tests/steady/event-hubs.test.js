'use strict';

// The Event Hubs-compatible endpoint, read by the Event Hubs SDK: over TLS, without TLS as the Event Hubs emulator is, and
// over WebSocket.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const WebSocket = require('ws');
const { EventHubProducerClient, earliestEventPosition, latestEventPosition } = require('@azure/event-hubs');
const eventHubs = require('../../support/event-hubs');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { fileScope } = require('../../support/scope');
const { Subscription, Talker, refusal, index, upTo } = require('../../support/events');
const { eventHubsConnectionString } = require('../../support/redirect');
const { NO_RETRY, consumer } = require('../../support/telemetry');

const NOT_FOUND = ['ServiceCommunicationError', 'MessagingEntityNotFoundError']; // the SDK's two names for amqp:not-found
const OUT_OF_RANGE = ['ArgumentOutOfRangeError'];

const ENDPOINTS = {
  'TLS': () => ({ connectionString: service.eventHubs }),
  'no TLS': () => ({ connectionString: service.eventHubsPlain }),
  'WebSocket': () => ({ connectionString: service.eventHubs, webSocketOptions: { webSocket: WebSocket } }),
};

const file = fileScope();
let talker; // six events, the last three enqueued later than the first three
let sent;

before(async () => {
  await service.load();
  talker = await Talker.open(file);
  await talker.say(2);
  await talker.pause();
  await talker.say(3);
  await talker.pause();
  ({ sent } = talker);
});

/** The talker's events from a position on. */
const readFrom = (t, startPosition, options = {}) => new Subscription(t, talker.partitionId, { startPosition, of: talker.device, ...options }).events;


for (const [name, endpoint] of Object.entries(ENDPOINTS)) {
  describe(`the Event Hubs endpoint over ${name}`, () => {
    test('says its name, its age and its partitions', async (t) => {
      const properties = await consumer(t, endpoint()).getEventHubProperties();
      assert.equal(properties.name, eventHubs.builtIn());
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
      const { connectionString, ...client } = endpoint();
      const events = await readFrom(t, earliestEventPosition, { connectionString, client }).takeMany(sent.length);
      assert.deepEqual(events.map(index), upTo(6));
    });
  });
}

test('each event is in one partition only, and each partition says what it holds', async (t) => {
  const client = consumer(t);
  for (const id of await client.getPartitionIds()) {
    const partition = await client.getPartitionProperties(id);
    assert.equal(partition.partitionId, id);
    assert.equal(partition.isEmpty, partition.lastEnqueuedSequenceNumber < partition.beginningSequenceNumber);
  }
});

describe('where a reader starts', () => {
  const positions = {
    'the earliest event': [() => earliestEventPosition, 0],
    'after an offset': [() => ({ offset: sent[2].offset }), 3],
    'at an offset': [() => ({ offset: sent[2].offset, isInclusive: true }), 2],
    'after a sequence number': [() => ({ sequenceNumber: sent[3].sequenceNumber }), 4],
    'at a sequence number': [() => ({ sequenceNumber: sent[3].sequenceNumber, isInclusive: true }), 3],
    'after an enqueued time': [() => ({ enqueuedOn: sent[2].enqueuedTimeUtc }), 3],
    'after a moment between two events': [() => ({ enqueuedOn: new Date(sent[3].enqueuedTimeUtc.getTime() - 1) }), 3],
    'after a moment before all events': [() => ({ enqueuedOn: new Date(0) }), 0],
    'a place of its own for each partition': [() => ({ [talker.partitionId]: { sequenceNumber: sent[4].sequenceNumber } }), 5],
  };
  for (const [what, [position, first]] of Object.entries(positions)) {
    test(what, async (t) => {
      const events = await readFrom(t, position()).takeMany(sent.length - first);
      assert.deepEqual(events.map(index), upTo(6, first));
    });
  }

  test('the latest event: nothing that was there before', async (t) => {
    const inbox = readFrom(t, latestEventPosition);
    const before = sent.length;
    let heard;
    inbox.take().then((event) => { heard = event; }, () => {});
    // The SDK does not say when its link stands, so the talker speaks until it is heard.
    await hub.until('an event was heard', async () => {
      if (!heard) await talker.say(1);
      return heard;
    });
    assert.ok(index(heard) >= before, `event ${index(heard)} was sent after ${before} others`);
  });
});

describe('what is not there', () => {
  test('another event hub', async (t) => {
    const nowhere = { connectionString: eventHubs.connectionString('nowhere') };
    await assert.rejects(consumer(t, nowhere).getEventHubProperties(), (err) => isOneOf(NOT_FOUND, err.code));
    await isOneOf(NOT_FOUND, await refusal(t, '0', nowhere));
  });

  test('another partition', async (t) => {
    for (const partition of ['4', '99', '-1', 'first']) {
      await assert.rejects(consumer(t).getPartitionProperties(partition), (err) => isOneOf([...OUT_OF_RANGE, ...NOT_FOUND], err.code));
      isOneOf(OUT_OF_RANGE, await refusal(t, partition));
    }
  });

  const beyond = {
    'an offset': [() => ({ offset: String(Number(sent.at(-1).offset) + 1) }), /^The supplied offset '\d+' is invalid\. The last offset in the system is '\d+'/],
    'a sequence number': [() => ({ sequenceNumber: sent.at(-1).sequenceNumber + 2 }), /^The supplied sequence number '\d+' is invalid\. The last sequence number in the system is '\d+'/],
  };
  for (const [what, [position, text]] of Object.entries(beyond)) {
    test(`${what} behind the last event`, async (t) => {
      const reader = new Subscription(t, talker.partitionId, { startPosition: position() });
      const { code, message } = await reader.errors.take();
      assert.equal(code, 'ArgumentError');
      assert.match(message, text);
    });
  }
});

test('a producer is told that only devices send to this event hub', async (t) => {
  const producer = new EventHubProducerClient(service.eventHubs, { retryOptions: NO_RETRY });
  t.after(() => producer.close());
  await assert.rejects(producer.sendBatch([{ body: 'hello' }]), { code: 'UnauthorizedError', message: /'Send' claim/ });
});

describe("the hub's own address", () => {
  test('leads to the endpoint, as the documented sample follows it', async (t) => {
    const connectionString = await eventHubsConnectionString(service.connectionString);
    const properties = await consumer(t, { connectionString }).getEventHubProperties();
    assert.equal(properties.name, eventHubs.builtIn());
    const [event] = await readFrom(t, talker.start, { connectionString }).takeMany(1);
    assert.equal(index(event), 0);
  });

  test('leads nobody there who may not read', async () => {
    await assert.rejects(eventHubsConnectionString(service.policies.registryRead.connectionString), { condition: 'amqp:unauthorized-access' });
  });
});

function isOneOf(codes, code) {
  assert.ok(codes.includes(code), `${code} is one of ${codes}`);
  return true;
}
