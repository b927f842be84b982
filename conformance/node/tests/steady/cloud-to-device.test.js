'use strict';

// Cloud to device: what a back end sends over AMQP reaches a device on any door, and the device's answer is what counts.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { DOORS, speaking } = require('../../support/doors');
const { messagesOf } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { message, queued } = service;

const KB = 1024;
const QUEUE_DEPTH = 50;
const LIMIT = 64 * KB;

const file = fileScope();
let backEnd;

before(async () => {
  await service.load();
  backEnd = await service.connect(file);
});

/** Sends one message per text and waits until the hub has queued them all. */
async function send(device, ...texts) {
  for (const text of texts) await backEnd.send(device.deviceId, message(text));
}

const textOf = (received) => received.getData().toString();
const deliveryCount = (received) => received.transportObj.message_annotations['iothub-deliverycount'];
const emptied = (device) => hub.until('the queue is empty', async () => (await queued(device.deviceId)) === 0);

/** A device on a door, with its inbox; an HTTPS device polls once. */
async function listen(t, door, device) {
  const client = await devices.connect(t, door, device);
  const inbox = messagesOf(client);
  if (door.protocol === 'http') client.transport.receive();
  return { client, inbox };
}

for (const door of DOORS) {
  describe(`cloud to device over ${door.name}`, () => {
    test('a message sent while the device was away waits for it, with its properties', async (t) => {
      const device = await devices.create();
      const messageId = randomUUID();
      await backEnd.send(device.deviceId, message('hello', {
        messageId, correlationId: 'correlation-1', properties: { colour: 'deep red', path: '/a?b=c&d' },
      }));
      assert.equal(await queued(device.deviceId), 1);
      const { inbox } = await listen(t, door, device);
      const received = await inbox.take();
      assert.equal(textOf(received), 'hello');
      assert.equal(received.messageId, messageId);
      assert.equal(received.correlationId, 'correlation-1');
      assert.equal(received.to, `/devices/${device.deviceId}/messages/devicebound`);
      // The SDK leaves the header names of HTTPS as they are.
      const prefix = door.protocol === 'http' ? 'iothub-app-' : '';
      assert.equal(received.properties.getValue(`${prefix}colour`), 'deep red');
      assert.equal(received.properties.getValue(`${prefix}path`), '/a?b=c&d');
    });

    test('a completed message is gone', async (t) => {
      const device = await devices.create();
      await send(device, 'once');
      const { client, inbox } = await listen(t, door, device);
      await client.complete(await inbox.take()); // MQTT has sent its PUBACK already, and this does nothing
      await emptied(device);
    });
  });
}

for (const door of speaking('mqtt', 'amqp')) {
  describe(`pushing over ${door.name}`, () => {
    test('messages arrive in the order in which they were sent', async (t) => {
      const device = await devices.create();
      const texts = Array.from({ length: 30 }, (_, i) => `message ${i}`);
      await send(device, ...texts.slice(0, 15)); // these wait, the others find the device connected
      const { client, inbox } = await listen(t, door, device);
      await send(device, ...texts.slice(15));
      const received = await inbox.takeMany(texts.length);
      assert.deepEqual(received.map(textOf), texts);
      for (const each of received) await client.complete(each);
      await emptied(device);
    });

    test('content type, encoding and acknowledgement wish arrive', async (t) => {
      const device = await devices.create();
      await backEnd.send(device.deviceId, message('{}', { contentType: 'application/json', contentEncoding: 'utf-8', ack: 'full' }));
      const { inbox } = await listen(t, door, device);
      const received = await inbox.take();
      assert.equal(received.contentType, 'application/json');
      assert.equal(received.contentEncoding, 'utf-8');
      assert.equal(door.protocol === 'mqtt' ? received.properties.getValue('iothub-ack') : received.ack, 'full');
    });

    test('a binary body arrives byte for byte', async (t) => {
      const device = await devices.create();
      const bytes = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256));
      const { inbox } = await listen(t, door, device);
      await backEnd.send(device.deviceId, message(bytes));
      assert.deepEqual(Buffer.from((await inbox.take()).getData()), bytes);
    });

    test('a message of almost 64 KiB arrives whole', async (t) => {
      const device = await devices.create();
      const body = Buffer.alloc(LIMIT - KB, 'x');
      const { inbox } = await listen(t, door, device);
      await backEnd.send(device.deviceId, message(body));
      assert.deepEqual(Buffer.from((await inbox.take()).getData()), body);
    });

    test('each device gets its own messages only', async (t) => {
      const [one, two] = [await devices.create(), await devices.create()];
      const [first, second] = [await listen(t, door, one), await listen(t, door, two)];
      await send(one, 'for one');
      await send(two, 'for two');
      await send(one, 'for one again');
      assert.deepEqual((await first.inbox.takeMany(2)).map(textOf), ['for one', 'for one again']);
      assert.deepEqual((await second.inbox.takeMany(1)).map(textOf), ['for two']);
      assert.equal(second.inbox.left, 0);
    });
  });
}

for (const door of speaking('amqp')) {
  describe(`settling over ${door.name}`, () => {
    test('an abandoned message comes again, with a higher delivery count', async (t) => {
      const device = await devices.create();
      await send(device, 'again');
      const { client, inbox } = await listen(t, door, device);
      const first = await inbox.take();
      await client.abandon(first);
      const second = await inbox.take();
      assert.equal(textOf(second), 'again');
      assert.equal(deliveryCount(second), deliveryCount(first) + 1);
      await client.complete(second);
      await emptied(device);
    });

    test('a rejected message does not come again', async (t) => {
      const device = await devices.create();
      await send(device, 'unwanted', 'wanted');
      const { client, inbox } = await listen(t, door, device);
      const [unwanted, wanted] = await inbox.takeMany(2);
      await client.reject(unwanted);
      await client.complete(wanted);
      await emptied(device);
      assert.equal(inbox.left, 0);
    });

    test('messages abandoned in any order come again in the order in which they were sent', async (t) => {
      const device = await devices.create();
      const texts = ['a', 'b', 'c', 'd'];
      await send(device, ...texts);
      const away = await devices.connect(t, door, device);
      const before = await messagesOf(away).takeMany(texts.length);
      await away.complete(before[1]);
      for (const i of [3, 0]) await away.abandon(before[i]); // and 'c' is left unsettled
      await away.close();
      const { inbox } = await listen(t, door, device);
      assert.deepEqual((await inbox.takeMany(3)).map(textOf), ['a', 'c', 'd']);
    });

    test('what a device took and did not settle comes again when it returns', async (t) => {
      const device = await devices.create();
      await send(device, 'a', 'b');
      const away = await devices.connect(t, door, device);
      await messagesOf(away).takeMany(2);
      await away.close();
      assert.equal(await queued(device.deviceId), 2);
      const { inbox } = await listen(t, door, device);
      assert.deepEqual((await inbox.takeMany(2)).map(textOf), ['a', 'b']);
    });

    test('settling after the link is gone is DeviceMessageLockLostError', async (t) => {
      const device = await devices.create();
      await send(device, 'late');
      const { client, inbox } = await listen(t, door, device);
      const late = await inbox.take();
      await client.close();
      await assert.rejects(client.complete(late), { name: 'DeviceMessageLockLostError' });
    });
  });
}

for (const { name, Transport } of service.TRANSPORTS) {
  describe(`a back end on ${name}`, () => {
    test('sends to a device', async (t) => {
      const device = await devices.create();
      const client = await service.connect(t, { Transport });
      await client.send(device.deviceId, message('hello'));
      const { inbox } = await listen(t, speaking('amqp')[0], device);
      assert.equal(textOf(await inbox.take()), 'hello');
    });

    test('sending to a device that does not exist is DeviceNotFoundError', async (t) => {
      const client = await service.connect(t, { Transport });
      await assert.rejects(client.send(devices.freshId('nobody'), message('hello')), { name: 'DeviceNotFoundError' });
      const device = await devices.create(); // and the link still works
      await client.send(device.deviceId, message('hello'));
      assert.equal(await queued(device.deviceId), 1);
    });

    test('the 51st waiting message is DeviceMaximumQueueDepthExceededError', async (t) => {
      const device = await devices.create();
      const client = await service.connect(t, { Transport });
      for (let i = 0; i < QUEUE_DEPTH; i++) await client.send(device.deviceId, message(String(i)));
      await assert.rejects(client.send(device.deviceId, message('one too many')), { name: 'DeviceMaximumQueueDepthExceededError' });
      assert.equal(await queued(device.deviceId), QUEUE_DEPTH);
      const { client: receiver, inbox } = await listen(t, speaking('amqp')[0], device);
      const received = await inbox.takeMany(QUEUE_DEPTH);
      assert.deepEqual(received.map(textOf), Array.from({ length: QUEUE_DEPTH }, (_, i) => String(i)));
      await receiver.complete(received[0]);
      await hub.until('there is room again', async () => (await queued(device.deviceId)) < QUEUE_DEPTH);
      await client.send(device.deviceId, message('now it fits'));
      assert.equal(textOf(await inbox.take()), 'now it fits');
    });

    test('a message above 64 KiB is MessageTooLargeError', async (t) => {
      const device = await devices.create();
      const client = await service.connect(t, { Transport });
      await assert.rejects(client.send(device.deviceId, message(Buffer.alloc(LIMIT + KB))), { name: 'MessageTooLargeError' });
      assert.equal(await queued(device.deviceId), 0);
    });
  });
}

describe('the queue', () => {
  test('is emptied by a purge, which says how many went', async () => {
    const device = await devices.create();
    await send(device, 'a', 'b', 'c');
    const answer = await service.purge(device.deviceId);
    assert.equal(answer.totalMessagesPurged, 3);
    assert.equal(answer.deviceId, device.deviceId);
    assert.equal(await queued(device.deviceId), 0);
  });

  test('is gone with its device', async () => {
    const device = await devices.create();
    await send(device, 'a');
    await service.registry().delete(device.deviceId);
    await devices.create({ deviceId: device.deviceId });
    assert.equal(await queued(device.deviceId), 0);
  });
});
