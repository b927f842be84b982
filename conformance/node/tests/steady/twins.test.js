'use strict';

// Twins as devices and modules see them: what they read, what they report, and the desired properties that they hear of.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const service = require('../../support/service');
const twins = require('../../support/twins');
const devices = require('../../support/devices');
const modules = require('../../support/modules');
const { speaking } = require('../../support/doors');
const { PEERS } = require('../../support/peers');

const KB = 1024;

before(() => service.load());

const nested = (depth) => (depth === 0 ? 1 : { a: nested(depth - 1) });

// What no twin may hold (article "Understand and use device twins", section Tags and properties format).
const FORBIDDEN = {
  'a dot in a name': { 'a.b': 1 },
  'a dollar sign in a name': { $a: 1 },
  'a number sign in a name': { 'a#': 1 },
  'a space in a name': { 'a b': 1 },
  'a control character in a name': { 'a\u0001': 1 },
  'a forbidden name deep inside': { a: { b: { 'c.d': 1 } } },
  'a name of more than 1 KB': { ['n'.repeat(KB + 1)]: 1 },
  'a text of more than 4 KB': { a: 'x'.repeat(4 * KB + 1) },
  'eleven levels': nested(12), // the section itself is not counted
  'null in an array': { a: [1, null] },
  'an integer of more than 52 bits': { a: 2 ** 52 },
  'more than 32 KB': Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`part${i}`, 'x'.repeat(4000)])),
};

/** What an SDK makes of a twin error 400: the MQTT client knows the hub's text only, the AMQP client a class, and the answer behind it. */
function badRequest(door) {
  return (err) => {
    assert.match(err.message, /BadRequest/, err.stack);
    if (door.protocol === 'amqp') {
      assert.equal(err.amqpError.name, 'FormatError', err.stack);
      assert.equal(err.amqpError.amqpError.message_annotations.status, 400);
    }
    return true;
  };
}

for (const peer of PEERS) {
  for (const door of speaking('mqtt', 'amqp')) {
    describe(`the twin of a ${peer.kind} over ${door.name}`, () => {
      test('holds desired and reported properties with their versions, and nothing else', async (t) => {
        const identity = await peer.create();
        await twins.patch(identity, { tags: { place: 'roof' }, properties: { desired: { interval: 5, nested: { deep: [1, 'two'] } } } });
        const client = await peer.connect(t, door, identity);
        assert.deepEqual(await twins.properties(client), {
          desired: { interval: 5, nested: { deep: [1, 'two'] }, $version: 2 },
          reported: { $version: 1 },
        });
      });

      test('takes reports: objects are merged, null removes, everything else is replaced', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        await twins.report(client, { level: 1, list: [1, 2, 3], radio: { on: true, channel: { number: 7, name: 'seven' } }, text: 'grün €' });
        await twins.report(client, { level: null, list: [4], radio: { channel: { name: null, width: 20.5 } }, empty: {}, no: false });
        const expected = { list: [4], radio: { on: true, channel: { number: 7, width: 20.5 } }, text: 'grün €', empty: {}, no: false };
        assert.deepEqual((await twins.properties(client)).reported, { ...expected, $version: 3 });
        const { properties, tags } = await twins.get(identity);
        const { $version, $metadata, ...reported } = properties.reported;
        assert.deepEqual(reported, expected);
        assert.equal($version, 3);
        assert.match($metadata.radio.channel.width.$lastUpdated, /^\d{4}-\d\d-\d\dT.*Z$/);
        assert.equal($metadata.level, undefined);
        assert.equal(properties.desired.$version, 1);
        assert.deepEqual(tags, {});
      });

      test('takes reports of every kind of value that a twin may hold, up to its limits', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const values = {
          integer: 2 ** 52 - 1, negative: -(2 ** 52), fraction: 0.1, yes: true, text: 'x'.repeat(4 * KB), ['n'.repeat(KB)]: '', array: [[], {}, ['a', { b: 1 }]],
          deep: nested(10), 'ünï-_:/@^~': 1,
        };
        await twins.report(client, values);
        assert.deepEqual((await twins.properties(client)).reported, { ...values, $version: 2 });
      });

      test('is carried whole when both sides are almost 32 KB, and so is a change of that size', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const full = (sign) => Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`part${i}`, sign.repeat(4000)]));
        const changes = await twins.follow(client);
        await twins.desire(identity, full('d'));
        assert.deepEqual(await changes.take(), { ...full('d'), $version: 2 });
        await twins.report(client, full('r'));
        assert.deepEqual(await twins.properties(client), { desired: { ...full('d'), $version: 2 }, reported: { ...full('r'), $version: 2 } });
      });

      test('takes many reports at once', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        await twins.own(client);
        await Promise.all(Array.from({ length: 20 }, (_, i) => twins.report(client, { [`p${i}`]: i })));
        const { reported } = (await twins.get(identity)).properties;
        assert.equal(reported.$version, 21);
        for (let i = 0; i < 20; i++) assert.equal(reported[`p${i}`], i);
      });

      for (const [what, change] of Object.entries(FORBIDDEN)) {
        test(`takes no report with ${what}`, async (t) => {
          const identity = await peer.create();
          const client = await peer.connect(t, door, identity);
          await twins.report(client, { kept: true });
          await assert.rejects(twins.report(client, change), badRequest(door));
          assert.deepEqual((await twins.properties(client)).reported, { kept: true, $version: 2 });
        });
      }

      for (const [what, change] of Object.entries({ array: [1], text: 'a', number: 1, null: null })) {
        test(`takes no report that is no object: ${what}`, async (t) => {
          const identity = await peer.create();
          const client = await peer.connect(t, door, identity);
          await assert.rejects(twins.report(client, change), badRequest(door));
          assert.deepEqual((await twins.properties(client)).reported, { $version: 1 });
        });
      }

      test('tells of desired changes, each once and in order, with null for what went', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const changes = await twins.follow(client);
        await twins.desire(identity, { interval: 1, radio: { on: true, name: 'r' } });
        await twins.desire(identity, { interval: null, radio: { name: null } });
        for (let i = 0; i < 18; i++) await twins.desire(identity, { i });
        const heard = await changes.takeMany(20);
        assert.deepEqual(heard.slice(0, 2), [
          { interval: 1, radio: { on: true, name: 'r' }, $version: 2 },
          { interval: null, radio: { name: null }, $version: 3 },
        ]);
        assert.deepEqual(heard.slice(2), Array.from({ length: 18 }, (_, i) => ({ i, $version: i + 4 })));
        assert.deepEqual((await twins.properties(client)).desired, { radio: { on: true }, i: 17, $version: 21 });
      });

      test('tells of a replacement so that what the SDK keeps is right', async (t) => {
        const identity = await peer.create();
        await twins.desire(identity, { old: 1, both: { old: 1, same: 2 } });
        const client = await peer.connect(t, door, identity);
        const changes = await twins.follow(client);
        await twins.replace(identity, { properties: { desired: { new: 3, both: { same: 2 } } } });
        assert.equal((await changes.take()).$version, 3);
        const kept = client._twin.properties.desired; // what an application reads: the SDK merged the change into it
        assert.deepEqual(JSON.parse(JSON.stringify(kept)), { new: 3, both: { same: 2 }, $version: 3 });
      });

      test('tells nothing of tags, nor of its own reports', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const changes = await twins.follow(client);
        await twins.patch(identity, { tags: { place: 'roof' } });
        await twins.report(client, { a: 1 });
        await twins.desire(identity, { last: true });
        assert.deepEqual(await changes.take(), { last: true, $version: 2 });
        assert.equal(changes.left, 0);
      });

      test('tells nothing before it is asked to, nor after it is asked to stop', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        await twins.own(client);
        await twins.desire(identity, { unheard: 1 });
        const changes = await twins.follow(client);
        await twins.desire(identity, { heard: 2 });
        assert.deepEqual(await changes.take(), { heard: 2, $version: 3 });
        await twins.unfollow(client);
        await twins.desire(identity, { unheard: 3 });
        await twins.refollow(client);
        await twins.desire(identity, { heard: 4 });
        assert.deepEqual(await changes.take(), { heard: 4, $version: 5 });
        assert.equal(changes.left, 0);
      });

      test('does not tell later what changed while it was away', async (t) => {
        const identity = await peer.create();
        const first = await peer.connect(t, door, identity);
        await twins.follow(first);
        await first.close();
        await twins.desire(identity, { missed: 1 });
        const second = await peer.connect(t, door, identity);
        const changes = await twins.follow(second);
        await twins.desire(identity, { heard: 2 });
        assert.deepEqual(await changes.take(), { heard: 2, $version: 3 });
        assert.equal(second._twin.properties.desired.missed, 1);
      });
    });
  }
}

for (const door of speaking('mqtt', 'amqp')) {
  describe(`twins over ${door.name}`, () => {
    test('of a device and its module are two, with changes of their own', async (t) => {
      const device = await devices.create();
      const module = await modules.create({ deviceId: device.deviceId });
      const clients = [await devices.connect(t, door, device), await modules.connect(t, door, module)];
      const [deviceChanges, moduleChanges] = [await twins.follow(clients[0]), await twins.follow(clients[1])];
      await twins.desire(device, { for: 'device' });
      await twins.desire(module, { for: 'module' });
      assert.deepEqual(await deviceChanges.take(), { for: 'device', $version: 2 });
      assert.deepEqual(await moduleChanges.take(), { for: 'module', $version: 2 });
      assert.equal(deviceChanges.left + moduleChanges.left, 0);
    });

    test('of a device whose id has every sign of the grammar are its own', async (t) => {
      const device = await devices.create({ deviceId: `${devices.freshId()}-:.+%_#*?!(),=@;$'%41` });
      const client = await devices.connect(t, door, device);
      const changes = await twins.follow(client);
      await twins.desire(device, { found: true });
      assert.deepEqual(await changes.take(), { found: true, $version: 2 });
    });
  });
}

describe('a refused report', () => {
  test('is told in the same words on every door', async (t) => {
    const told = new Set();
    for (const door of speaking('mqtt', 'amqp')) {
      const client = await devices.connect(t, door, await devices.create());
      await assert.rejects(twins.report(client, { 'a.b': 1 }), (err) => {
        const { errorCode, message } = door.protocol === 'amqp' ? JSON.parse(err.amqpError.amqpError.body.content) : { errorCode: 400004, message: err.message };
        assert.equal(errorCode, 400004);
        told.add(message);
        return true;
      });
    }
    assert.equal(told.size, 1, [...told].join('\n'));
  });
});
