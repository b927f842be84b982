'use strict';

// How long events stay: a day, when the hub is told nothing else; and how long a reader may read with one SAS.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { earliestEventPosition } = require('@azure/event-hubs');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { Subscription, Talker, index, upTo } = require('../../support/events');
const { Reader, consumer } = require('../../support/telemetry');

let connectionString;

before(async () => {
  await service.load();
  connectionString = service.eventHubsByToken();
});

const follow = (t, talker, options) => new Subscription(t, talker.partitionId, { connectionString, of: talker.device, ...options });
const partition = (t, talker) => consumer(t, { connectionString }).getPartitionProperties(talker.partitionId);

describe('events older than a day', () => {
  test('are gone, and the partition says so', async (t) => {
    const talker = await Talker.open(t, await Reader.open(t, { connectionString }));
    await talker.say(4);
    const idle = follow(t, talker, { startPosition: talker.start });
    assert.deepEqual((await idle.events.takeMany(5)).map(index), upTo(5));
    await hub.advance('23h');
    await talker.say(3);
    assert.deepEqual((await follow(t, talker, { startPosition: talker.start }).events.takeMany(8)).map(index), upTo(8));
    const [oldest, newest] = [talker.sent[5], talker.sent.at(-1)];

    await hub.advance('2h');
    const left = await hub.until('the first are gone', async () => {
      const properties = await partition(t, talker);
      return properties.beginningSequenceNumber === oldest.sequenceNumber && properties;
    });
    assert.equal(left.isEmpty, false);
    assert.equal(left.lastEnqueuedSequenceNumber, newest.sequenceNumber);
    assert.equal(left.lastEnqueuedOffset, newest.offset);
    assert.deepEqual(left.lastEnqueuedOnUtc, newest.enqueuedTimeUtc);

    const positions = {
      'the earliest': earliestEventPosition,
      'one that is gone': talker.start,
      'the offset of one that is gone': { offset: talker.sent[2].offset },
      'a time before all': { enqueuedOn: talker.sent[0].enqueuedTimeUtc },
    };
    for (const [what, startPosition] of Object.entries(positions)) {
      const reader = follow(t, talker, { startPosition });
      assert.deepEqual((await reader.events.takeMany(3)).map(index), [5, 6, 7], what);
      await reader.client.close();
    }
    assert.deepEqual((await idle.events.takeMany(3)).map(index), [5, 6, 7], 'a reader that was there all the time');
  });

  test('leave an empty partition that goes on counting', async (t) => {
    const talker = await Talker.open(t, await Reader.open(t, { connectionString }));
    const [last] = talker.sent;
    await hub.advance('25h');
    const empty = await hub.until('the partition is empty', async () => {
      const properties = await partition(t, talker);
      return properties.isEmpty && properties;
    });
    assert.equal(empty.lastEnqueuedSequenceNumber, last.sequenceNumber);
    assert.equal(empty.lastEnqueuedOffset, last.offset);
    const reader = follow(t, talker, { startPosition: { offset: last.offset } });
    await talker.say(1);
    const next = await reader.events.take();
    assert.equal(next.sequenceNumber, last.sequenceNumber + 1);
    assert.ok(Number(next.offset) > Number(last.offset));
    assert.equal((await partition(t, talker)).beginningSequenceNumber, next.sequenceNumber);
  });
});

test('a reader ends when its SAS does', async (t) => {
  const talker = await Talker.open(t, await Reader.open(t, { connectionString }));
  const ahead = Math.round(((await hub.now()) - Date.now()) / 1000); // the hub's clock is that many seconds ahead
  const short = follow(t, talker, { connectionString: service.eventHubsByToken(undefined, { lifetime: ahead + 600 }), startPosition: talker.start });
  assert.equal(index(await short.events.take()), 0);
  await hub.advance('20m');
  assert.equal((await short.errors.take()).code, 'UnauthorizedError');
});
