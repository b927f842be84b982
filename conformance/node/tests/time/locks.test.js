'use strict';

// A message that a device has taken is locked for it for 60 seconds (article "Send cloud-to-device messages": the message life
// cycle). After that it is anybody's again.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { messagesOf } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { message, queued } = service;

const BEYOND_LOCK = '61s';
const POLL_INTERVAL = '25m';

const file = fileScope();
let backEnd;

before(async () => {
  await service.load();
  backEnd = await service.connect(file);
});

const textOf = (received) => received.getData().toString();

/** The error that the HTTPS transport passes on for the answer 412 DeviceMessageLockLost. */
const lockLost = (err) => {
  assert.equal(err.response?.statusCode, 412, err.stack);
  assert.equal(err.response.headers['iothub-errorcode'], 'DeviceMessageLockLost');
  return true;
};

describe('a lock over HTTPS', () => {
  const [door] = speaking('http');

  for (const answer of ['complete', 'reject', 'abandon']) {
    test(`lasts for less than 61 seconds: then ${answer} is 412 and the message comes again`, async (t) => {
      const device = await devices.create();
      await backEnd.send(device.deviceId, message('late'));
      const client = await devices.connect(t, door, device);
      const inbox = messagesOf(client);
      client.transport.receive();
      const first = await inbox.take();
      await hub.advance(BEYOND_LOCK);
      await assert.rejects(client[answer](first), lockLost);
      assert.equal(await queued(device.deviceId), 1);
      await hub.advance(POLL_INTERVAL);
      client.transport.receive();
      const second = await inbox.take();
      assert.equal(textOf(second), 'late');
      assert.notEqual(second.lockToken, first.lockToken);
      await client.complete(second);
      assert.equal(await queued(device.deviceId), 0);
    });
  }

  test('lasts for 59 seconds: then complete works', async (t) => {
    const device = await devices.create();
    await backEnd.send(device.deviceId, message('just in time'));
    const client = await devices.connect(t, door, device);
    const inbox = messagesOf(client);
    client.transport.receive();
    const received = await inbox.take();
    await hub.advance('59s');
    await client.complete(received);
    assert.equal(await queued(device.deviceId), 0);
  });

  test('cannot be settled twice', async (t) => {
    const device = await devices.create();
    await backEnd.send(device.deviceId, message('once'));
    const client = await devices.connect(t, door, device);
    const inbox = messagesOf(client);
    client.transport.receive();
    const received = await inbox.take();
    await client.complete(received);
    await assert.rejects(client.complete(received), lockLost);
  });

  test('is given back by abandon: the next poll gets the message, before later ones', async (t) => {
    const device = await devices.create();
    for (const text of ['first', 'second']) await backEnd.send(device.deviceId, message(text));
    const client = await devices.connect(t, door, device);
    const inbox = messagesOf(client);
    for (const [expected, answer] of [['first', 'abandon'], ['first', 'complete'], ['second', 'complete']]) {
      client.transport.receive();
      const received = await inbox.take();
      assert.equal(textOf(received), expected);
      await client[answer](received);
      await hub.advance(POLL_INTERVAL);
    }
    assert.equal(await queued(device.deviceId), 0);
  });
});

describe('a lock over AMQP', () => {
  for (const door of speaking('amqp')) {
    test(`is lost after 61 seconds: ${door.name} brings the message again, and only the new delivery counts`, async (t) => {
      const device = await devices.create();
      await backEnd.send(device.deviceId, message('late'));
      const client = await devices.connect(t, door, device);
      const inbox = messagesOf(client);
      const first = await inbox.take();
      await hub.advance(BEYOND_LOCK);
      const second = await inbox.take();
      assert.equal(textOf(second), 'late');
      await client.complete(first); // says nothing on this protocol, and removes nothing
      assert.equal(await queued(device.deviceId), 1);
      await client.complete(second);
      await hub.until('the queue is empty', async () => (await queued(device.deviceId)) === 0);
    });
  }
});
