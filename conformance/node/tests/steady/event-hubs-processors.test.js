'use strict';

// Back ends that read the events as event processors do: several share the partitions and keep, in blobs, who reads what and how far it got.
// The storage is Azurite.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { BlobCheckpointStore } = require('@azure/eventhubs-checkpointstore-blob');
const { BlobServiceClient, ContainerSASPermissions } = require('@azure/storage-blob');
const eventHubs = require('../../support/event-hubs');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { Blobs } = require('../../support/blobs');
const { Talker, upTo } = require('../../support/events');
const { Processor, shared } = require('../../support/processors');
const { fileScope } = require('../../support/scope');

const GROUP = 'processors';
const HOUR_MS = 3_600_000;

const file = fileScope();
let blobs;
let talkers; // one for each partition, in their order
let entity;

before(async () => {
  await service.load();
  entity = eventHubs.builtIn();
  await eventHubs.putGroup(file, GROUP);
  blobs = await Blobs.open(file);
  talkers = await Talker.forEachPartition(file);
});

const say = (count) => Promise.all(talkers.map((talker) => talker.say(count)));

/** The talkers' first sequence number in each partition, and their last. */
const oldest = () => talkers.map((talker) => talker.sent[0].sequenceNumber);
const newest = () => talkers.map((talker) => talker.sent.at(-1).sequenceNumber);

/** A place for checkpoints: {uri, kept()}; kept answers the sequence number of each partition's checkpoint, -1 where there is none. */
async function checkpoints() {
  const { uri, client } = await blobs.container();
  return { uri, ...checkpointsIn(client) };
}

function checkpointsIn(client) {
  const store = new BlobCheckpointStore(client);
  const kept = async () => {
    const found = await store.listCheckpoints(service.host, entity, GROUP);
    return talkers.map(({ partitionId }) => found.find((one) => one.partitionId === partitionId)?.sequenceNumber ?? -1);
  };
  return { client, kept };
}

/** Starts a processor; where there is no checkpoint, it begins with the talkers' first events. */
function start(t, { uri }, name, options) {
  const startPosition = Object.fromEntries(talkers.map(({ partitionId, start: position }) => [partitionId, position]));
  return Processor.start(t, { container: uri, group: GROUP, name, startPosition, ...options });
}

/** Waits until the processors have together seen every event there is, and its checkpoints say so. */
async function allSeen(processors, { kept }) {
  const [from, wanted] = [oldest(), newest()];
  await hub.until('all events were seen', () => talkers.every(({ partitionId }, i) => {
    const seen = new Set(processors.flatMap((processor) => processor.of(partitionId)));
    return seen.size === wanted[i] - from[i] + 1;
  }), 15_000);
  await hub.until('the checkpoints are at the end', async () => (await kept()).every((at, i) => at === wanted[i]));
}

/** While a processor had a partition it got every event, in order and once. */
const noneSkipped = (processors) => {
  for (const { name, skipped } of processors) assert.deepEqual(skipped, [], `${name} got its events one after another`);
};

describe('event processors', () => {
  test('share the partitions and hand over what is being read', async (t) => {
    const place = await checkpoints();
    const first = await start(t, place, 'first');
    await shared([first, 4]);
    await say(10);
    const second = await start(t, place, 'second');
    await shared([first, 2], [second, 2]);
    const lost = await first.lost.takeMany(2);
    assert.deepEqual(new Set(lost), second.open);
    await say(10);
    await allSeen([first, second], place);
    noneSkipped([first, second]);
    talkers.forEach(({ partitionId }, i) => {
      const owner = second.open.has(partitionId) ? second : first;
      assert.equal(owner.of(partitionId).at(-1), newest()[i]);
    });
  });

  test('go on for one that died, from where its checkpoints are', async (t) => {
    const place = await checkpoints();
    const doomed = await start(t, place, 'doomed', { stallAfter: 2 });
    await shared([doomed, 4]);
    await say(20);
    await hub.until('it is in the middle of each partition', () => doomed.stalled.size === 4);
    await doomed.die();
    const kept = await place.kept();
    const heir = await start(t, place, 'heir');
    await say(5);
    await allSeen([doomed, heir], place);
    noneSkipped([doomed, heir]);
    talkers.forEach(({ partitionId }, i) => {
      assert.equal(heir.of(partitionId)[0], kept[i] + 1, `partition ${partitionId} goes on after its checkpoint`);
      assert.ok(doomed.of(partitionId).at(-1) > kept[i], 'what was seen after the checkpoint is seen again');
    });
  });

  test('take over from one that hangs, which learns of it when it wakes', async (t) => {
    const place = await checkpoints();
    const hung = await start(t, place, 'hung');
    await shared([hung, 4]);
    await allSeen([hung], place);
    hung.hang();
    const heir = await start(t, place, 'heir');
    await shared([heir, 4]);
    await say(5);
    await allSeen([hung, heir], place);
    hung.wake();
    await hung.lost.takeMany(4);
    await shared([hung, 2], [heir, 2]);
    await say(5);
    await allSeen([hung, heir], place);
    noneSkipped([hung, heir]);
  });

  test('that stopped go on after their checkpoints, with no event twice', async (t) => {
    const place = await checkpoints();
    const runs = [];
    for (const name of ['first', 'second']) {
      await say(5);
      const processor = await start(t, place, name);
      await allSeen([...runs, processor], place);
      await processor.stop();
      runs.push(processor);
    }
    talkers.forEach(({ partitionId }, i) => {
      const seen = runs.flatMap((processor) => processor.of(partitionId));
      assert.deepEqual(seen, upTo(newest()[i] + 1, oldest()[i]));
    });
  });

  test('keep what they know in the storage behind the HTTPS door as well', async (t) => {
    const container = BlobServiceClient.fromConnectionString(service.storage).getContainerClient(`checkpoints-${process.pid}`);
    await container.create();
    t.after(() => container.delete());
    const uri = await container.generateSasUrl({ permissions: ContainerSASPermissions.parse('rwdl'), expiresOn: new Date(Date.now() + HOUR_MS) });
    const place = { ...checkpointsIn(container), uri };
    const first = await start(t, place, 'first');
    const second = await start(t, place, 'second');
    await shared([first, 2], [second, 2]);
    await allSeen([first, second], place);
    noneSkipped([first, second]);
  });

  test('keep what they know under the names that the endpoint has', async (t) => {
    const place = await checkpoints();
    const processor = await start(t, place, 'keeper');
    await allSeen([processor], place);
    const names = [];
    for await (const blob of place.client.listBlobsFlat()) names.push(blob.name);
    const kinds = ['checkpoint', 'ownership'];
    const wanted = kinds.flatMap((kind) => talkers.map(({ partitionId }) => `${service.host}/${entity}/${GROUP}/${kind}/${partitionId}`));
    assert.deepEqual(names.sort(), wanted.sort());
  });
});
