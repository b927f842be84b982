'use strict';

// One identity, one connection: a newer one closes the older, on whatever doors the two are, and nobody else notices.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { messagesOf } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;

const CONNECTED_DOORS = speaking('mqtt', 'amqp');

const file = fileScope();
let reader;
let backEnd;

before(async () => {
  await service.load();
  reader = await Reader.open(file);
  backEnd = await service.connect(file);
});

/** Connects and sends, so that on AMQP too, where a device appears with its first link, the hub knows it is there. */
async function appear(t, door, device) {
  const client = await devices.connect(t, door, device);
  const lost = new Promise((resolve) => { client.once('disconnect', (reason) => resolve(reason)); });
  client.isLost = false;
  lost.then(() => { client.isLost = true; });
  client.lost = lost;
  await client.sendEvent(message(`from ${door.name}`));
  return client;
}

describe('a second connection of a device', () => {
  for (const older of CONNECTED_DOORS) {
    for (const newer of CONNECTED_DOORS) {
      test(`on ${newer.name} closes the first, on ${older.name}, and nothing else`, async (t) => {
        const device = await devices.create();
        const neighbour = await devices.create();
        const bystander = await appear(t, older, neighbour);
        const first = await appear(t, older, device);
        const second = await appear(t, newer, device);
        await first.lost;
        await second.sendEvent(message('still here'));
        await bystander.sendEvent(message('undisturbed'));
        assert.equal(second.isLost, false);
        assert.equal(bystander.isLost, false);
        const texts = (await reader.of(device.deviceId).takeMany(3)).map((e) => e.body.toString());
        assert.deepEqual(texts, [`from ${older.name}`, `from ${newer.name}`, 'still here']);
      });
    }
  }

  for (const door of CONNECTED_DOORS) {
    test(`takes over the cloud-to-device messages on ${door.name}`, async (t) => {
      const device = await devices.create();
      const first = await appear(t, door, device);
      messagesOf(first);
      const second = await appear(t, door, device);
      await first.lost;
      const inbox = messagesOf(second);
      await backEnd.send(device.deviceId, message('to the newer'));
      assert.equal((await inbox.take()).getData().toString(), 'to the newer');
    });
  }
});

describe('a connection', () => {
  for (const door of CONNECTED_DOORS) {
    test(`on ${door.name} shows in the registry while it lasts`, async (t) => {
      const device = await devices.create();
      const state = async () => (await service.registry().get(device.deviceId)).responseBody.connectionState;
      assert.equal(await state(), 'Disconnected');
      const client = await appear(t, door, device);
      assert.equal(await state(), 'Connected');
      assert.equal((await hub.connections(device.deviceId)).length, 1);
      await client.close();
      await hub.until('the registry says Disconnected', async () => (await state()) === 'Disconnected');
      assert.equal((await hub.connections(device.deviceId)).length, 0);
    });

    test(`on ${door.name} that the control API cuts is lost, and the device may come back`, async (t) => {
      const device = await devices.create();
      const client = await appear(t, door, device);
      await hub.disconnect(device.deviceId);
      await client.lost;
      const again = await appear(t, door, device);
      assert.equal(again.isLost, false);
    });

    test(`on ${door.name} ends when its device is disabled or deleted`, async (t) => {
      const registry = service.registry();
      const [disabled, deleted] = [await devices.create(), await devices.create()];
      const clients = [await appear(t, door, disabled), await appear(t, door, deleted)];
      const { responseBody } = await registry.get(disabled.deviceId);
      await registry.update({ ...responseBody, status: 'disabled' });
      await registry.delete(deleted.deviceId);
      await Promise.all(clients.map((client) => client.lost));
    });
  }
});
