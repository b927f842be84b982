'use strict';

// Many readers of one partition: owner levels, consumer groups, readers that lose their connection, readers that lag.
// Source of the rules: article "Features and terminology in Azure Event Hubs", and the SDK's documentation of `ownerLevel`.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const eventHubs = require('../../support/event-hubs');
const service = require('../../support/service');
const { fileScope } = require('../../support/scope');
const { Subscription, Talker, refusal, index, upTo } = require('../../support/events');

const STOLEN = 'ReceiverDisconnectedError'; // the SDK's name for amqp:link:stolen
const TOO_MANY = 'QuotaExceededError'; // and for amqp:resource-limit-exceeded
const READERS = 5; // of one partition and consumer group, without owner level
const GROUP = 'readers'; // the talker itself reads as $Default
const OTHERS = 'other-readers';

const file = fileScope();
let talker;

before(async () => {
  await service.load();
  for (const group of [GROUP, OTHERS]) await eventHubs.putGroup(file, group);
  talker = await Talker.open(file);
  await talker.say(5);
});

/** A subscription to the talker's events from the first on. */
const follow = (t, options = {}) => new Subscription(t, talker.partitionId, { group: GROUP, of: talker.device, startPosition: talker.start, ...options });

/** As follow, and known to read: it has got the first event. */
async function established(t, options) {
  const subscription = follow(t, options);
  assert.equal(index(await subscription.events.take()), 0);
  return subscription;
}

const refused = (t, options) => refusal(t, talker.partitionId, { group: GROUP, of: talker.device, startPosition: talker.start, ...options });

async function isStolen(subscription) {
  assert.equal((await subscription.errors.take()).code, STOLEN);
  assert.equal(await subscription.ends.take(), 'OwnershipLost');
}

/** The subscription still gets what is sent. */
async function stillReads(subscription) {
  await talker.say(1);
  const newest = talker.sent.length - 1;
  while (index(await subscription.events.take()) !== newest);
  assert.equal(subscription.errors.left, 0);
}

describe('an owner level', () => {
  for (const [what, first, second] of [['a higher one', 1, 2], ['an equal one', 7, 7]]) {
    test(`yields to ${what}, which reads on`, async (t) => {
      const old = await established(t, { ownerLevel: first });
      const heir = await established(t, { ownerLevel: second });
      await isStolen(old);
      await stillReads(heir);
    });
  }

  test('refuses a lower one and is not disturbed', async (t) => {
    const owner = await established(t, { ownerLevel: 2 });
    assert.equal(await refused(t, { ownerLevel: 1 }), STOLEN);
    await stillReads(owner);
  });

  test('refuses readers without one, and ends those that were there', async (t) => {
    const plain = [await established(t), await established(t)];
    const owner = await established(t, { ownerLevel: 1 });
    for (const reader of plain) await isStolen(reader);
    assert.equal(await refused(t), STOLEN);
    await stillReads(owner);
  });

  test('leaves with its reader', async (t) => {
    const owner = await established(t, { ownerLevel: 9 });
    await owner.client.close();
    await established(t, { ownerLevel: 1 });
  });

  test('counts for its own consumer group only', async (t) => {
    const owner = await established(t, { ownerLevel: 3 });
    const others = [await established(t, { group: '$Default' }), await established(t, { group: OTHERS, ownerLevel: 1 })];
    for (const reader of [owner, ...others]) await stillReads(reader);
  });

  test('counts for its own partition only', async (t) => {
    const owner = await established(t, { ownerLevel: 3 });
    const elsewhere = talker.partitionId === '0' ? '1' : '0';
    let reads = () => {};
    const reading = new Promise((resolve) => { reads = resolve; });
    // A batch, even an empty one, comes when the link stands.
    new Subscription(t, elsewhere, { startPosition: { offset: '-1' }, process: async () => reads() });
    await reading;
    await stillReads(owner);
  });
});

describe('readers without an owner level', () => {
  test('of one consumer group and of several each get every event', async (t) => {
    const readers = [GROUP, GROUP, GROUP.toUpperCase(), '$Default', '$default'].map((group) => follow(t, { group }));
    for (const reader of readers) assert.deepEqual((await reader.events.takeMany(talker.sent.length)).map(index), upTo(talker.sent.length));
  });

  test('are five at most, all of which read', async (t) => {
    const readers = [];
    for (let i = 0; i < READERS; i++) readers.push(await established(t));
    assert.equal(await refused(t), TOO_MANY);
    await readers[0].client.close();
    await stillReads(await established(t));
    for (const reader of readers.slice(1)) await stillReads(reader);
  });
});

describe('a reader', () => {
  test('that lost its connection comes back at its place: each event once, in order', async (t) => {
    const reader = follow(t, { client: { retryOptions: { maxRetries: 3, retryDelayInMs: 10 } }, maxBatchSize: 2 });
    const heard = [];
    for (let cut = 0; cut < 3; cut++) {
      await talker.say(4);
      heard.push(...await reader.events.takeMany(talker.sent.length - heard.length));
      reader.tear();
      await talker.say(2); // while it is away, perhaps
    }
    heard.push(...await reader.events.takeMany(talker.sent.length - heard.length));
    assert.deepEqual(heard.map(index), upTo(talker.sent.length));
  });

  test('that fetches ahead gets each event once, in order', async (t) => {
    await talker.say(30);
    for (const [prefetchCount, maxBatchSize] of [[1, 1], [10, 3], [500, 50], [1, 500]]) {
      const events = await follow(t, { prefetchCount, maxBatchSize }).events.takeMany(talker.sent.length);
      assert.deepEqual(events.map(index), upTo(talker.sent.length), `fetching ${prefetchCount}, handed ${maxBatchSize}`);
    }
  });

  test('is handed no more at once than it asks for', async (t) => {
    const sizes = [];
    const reader = follow(t, { maxBatchSize: 7, process: async (events) => sizes.push(events.length) });
    await reader.events.takeMany(talker.sent.length);
    assert.ok(Math.max(...sizes) <= 7, `at most ${Math.max(...sizes)}`);
  });

  test('that is stuck with its first event keeps no other from reading', async (t) => {
    let release;
    const stuck = follow(t, { maxBatchSize: 1, process: () => new Promise((resolve) => { release = resolve; }) });
    const others = [await established(t), await established(t)];
    for (const other of others) await stillReads(other);
    assert.equal(stuck.events.left, 0);
    release();
    assert.equal(index(await stuck.events.take()), 0);
    release();
  });
});

describe('the end of the partition', () => {
  test('is told to a reader with every event, when it asks', async (t) => {
    const reader = follow(t, { trackLastEnqueuedEventProperties: true });
    const { context: { lastEnqueuedEventProperties: last } } = await reader.events.take();
    const newest = talker.sent.at(-1);
    assert.equal(last.sequenceNumber, newest.sequenceNumber);
    assert.equal(last.offset, newest.offset);
    assert.deepEqual(last.enqueuedOn, newest.enqueuedTimeUtc);
    assert.ok(last.retrievedOn >= newest.enqueuedTimeUtc);
    await talker.say(1);
    let event;
    do event = await reader.events.take(); while (index(event) !== talker.sent.length - 1);
    assert.equal(event.context.lastEnqueuedEventProperties.sequenceNumber, talker.sent.at(-1).sequenceNumber);
  });

  test('is not told to a reader that does not ask', async (t) => {
    const { context } = await follow(t).events.take();
    assert.equal(context.lastEnqueuedEventProperties?.sequenceNumber, undefined);
  });
});
