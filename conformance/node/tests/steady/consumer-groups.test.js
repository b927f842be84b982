'use strict';

// Consumer groups, which have to be made before somebody reads for them, and event hubs beside the built-in one.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const eventHubs = require('../../support/event-hubs');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { Subscription, Talker, index, refusal, upTo } = require('../../support/events');
const { fileScope } = require('../../support/scope');
const { consumer } = require('../../support/telemetry');

const NOT_FOUND = ['MessagingEntityNotFoundError', 'ServiceCommunicationError']; // the SDK's two names for amqp:not-found
const MOST = 20; // of an event hub, $Default included

const file = fileScope();
let talker;

before(async () => {
  await service.load();
  talker = await Talker.open(file);
  await talker.say(4);
});

const follow = (t, group, options) => new Subscription(t, talker.partitionId, { group, of: talker.device, startPosition: talker.start, ...options });

const reads = async (subscription) => assert.deepEqual((await subscription.events.takeMany(5)).map(index), upTo(5));

const isNotFound = (code) => assert.ok(NOT_FOUND.includes(code), `${code} is one of ${NOT_FOUND}`);

async function isRefused(answer, status) {
  const response = await answer;
  assert.equal(response.status, status, await response.text());
}

describe('a consumer group', () => {
  test('is there from the start when the command says so, like $Default', async (t) => {
    for (const group of ['configured', 'Configured', '$Default']) await reads(follow(t, group));
  });

  test('that nobody made is refused, and the refusal names those that there are', async (t) => {
    const { code, message } = await follow(t, 'unknown').errors.take();
    isNotFound(code);
    for (const group of ['unknown', 'configured', '$Default']) assert.ok(message.includes(group), message);
  });

  test('is made over the control API, and may be made again', async (t) => {
    assert.equal((await eventHubs.putGroup(t, 'dashboard')).name, 'dashboard');
    assert.equal((await eventHubs.putGroup(t, 'Dashboard')).name, 'dashboard');
    await reads(follow(t, 'dashboard'));
    assert.ok((await eventHubs.get(eventHubs.builtIn())).consumerGroups.includes('dashboard'));
  });

  test('says who reads for it', async (t) => {
    await eventHubs.putGroup(t, 'dashboard');
    assert.deepEqual((await eventHubs.getGroup('dashboard')).readers, []);
    const reader = follow(t, 'dashboard', { ownerLevel: 3 });
    await reads(reader);
    const { readers } = await eventHubs.getGroup('dashboard');
    assert.equal(readers.length, 1);
    assert.equal(readers[0].partition, talker.partitionId);
    assert.equal(readers[0].ownerLevel, 3);
    assert.ok(readers[0].name); // the SDK's own, for one partition
    await reader.client.close();
    await hub.until('nobody reads', async () => (await eventHubs.getGroup('dashboard')).readers.length === 0);
  });

  test('that is deleted ends its readers, and no others', async (t) => {
    await eventHubs.putGroup(t, 'dashboard');
    const [reader, other] = [follow(t, 'dashboard'), follow(t, 'configured')];
    await Promise.all([reads(reader), reads(other)]);
    await eventHubs.removeGroup('dashboard');
    isNotFound((await reader.errors.take()).code);
    isNotFound(await refusal(t, talker.partitionId, { group: 'dashboard' }));
    await talker.say(1);
    assert.equal(index(await other.events.take()), 5);
    assert.equal(other.errors.left, 0);
    talker.sent.pop(); // the other tests count on five
  });

  test('is refused a name that it cannot have, and $Default stays', async () => {
    for (const name of ['-', 'a b', 'x'.repeat(51), '.end']) await isRefused(hub.request('PUT', eventHubs.groupPath(name)), 400);
    await isRefused(hub.request('DELETE', eventHubs.groupPath('$Default')), 400);
    await isRefused(hub.request('DELETE', eventHubs.groupPath('unknown')), 404);
    await isRefused(hub.request('GET', eventHubs.groupPath('unknown')), 404);
  });

  test(`is one of ${MOST} at most`, async (t) => {
    await eventHubs.put(t, 'crowded');
    for (let i = 1; i < MOST; i++) await eventHubs.putGroup(t, `group-${i}`, 'crowded');
    await isRefused(hub.request('PUT', eventHubs.groupPath('one-more', 'crowded')), 403);
    await eventHubs.removeGroup('group-1', 'crowded');
    await eventHubs.putGroup(t, 'one-more', 'crowded');
  });
});

describe('an event hub beside the built-in one', () => {
  test('has a name, partitions and consumer groups of its own', async (t) => {
    await eventHubs.put(t, 'alarms', { partitions: 2, consumerGroups: ['operators'] });
    const connectionString = eventHubs.connectionString('alarms');
    const properties = await consumer(t, { connectionString }).getEventHubProperties();
    assert.equal(properties.name, 'alarms');
    assert.deepEqual(properties.partitionIds, ['0', '1']);
    assert.ok(properties.createdOn <= await hub.now());
    const partition = await consumer(t, { connectionString }).getPartitionProperties('1');
    assert.equal(partition.isEmpty, true);
    assert.equal(partition.lastEnqueuedSequenceNumber, -1);
    isNotFound(await refusal(t, '0', { connectionString, group: 'configured' }));
    assert.equal(await refusal(t, '2', { connectionString, group: 'operators' }), 'ArgumentOutOfRangeError');
    const known = new Map((await eventHubs.list()).map(({ name, builtIn }) => [name, builtIn]));
    assert.equal(known.get('alarms'), false);
    assert.equal(known.get(eventHubs.builtIn()), true);
  });

  test('gets nothing that devices send, unless a route says so', async (t) => {
    await eventHubs.put(t, 'alarms', { partitions: 1 });
    await talker.say(1);
    talker.sent.pop();
    const { isEmpty } = await consumer(t, { connectionString: eventHubs.connectionString('alarms') }).getPartitionProperties('0');
    assert.equal(isEmpty, true);
  });

  test('that is deleted ends its readers and is unknown from then on', async (t) => {
    await eventHubs.put(t, 'alarms', { partitions: 1 });
    const connectionString = eventHubs.connectionString('alarms');
    let standing;
    const stands = new Promise((resolve) => { standing = resolve; });
    const reader = new Subscription(t, '0', { connectionString, startPosition: { offset: '-1' }, process: async () => standing() });
    await stands;
    await eventHubs.remove('alarms');
    isNotFound((await reader.errors.take()).code);
    await assert.rejects(consumer(t, { connectionString }).getEventHubProperties(), (err) => isNotFound(err.code) ?? true);
  });

  test('is refused a name or a number of partitions that it cannot have, and the built-in one stays', async () => {
    const json = (body) => ({ headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    await isRefused(hub.request('PUT', eventHubs.path('a b'), json({})), 400);
    for (const partitions of [0, 33]) await isRefused(hub.request('PUT', eventHubs.path('alarms'), json({ partitions })), 400);
    await isRefused(hub.request('PUT', eventHubs.path('alarms'), json({ colour: 'red' })), 400);
    await isRefused(hub.request('DELETE', eventHubs.path(eventHubs.builtIn())), 400);
    await isRefused(hub.request('GET', eventHubs.path('nowhere')), 404);
  });
});
