'use strict';

// One identity, one connection: a newer one closes the older, on whatever doors the two are, and nobody else notices.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const methods = require('../../support/methods');
const modules = require('../../support/modules');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { byKey } = require('../../support/credentials');
const { PEERS } = require('../../support/peers');
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

describe('the state of a connection', () => {
  const stateOf = async (identity) => (await twins.get(identity)).connectionState;

  for (const peer of PEERS) {
    for (const door of CONNECTED_DOORS) {
      /** Connects with a listener for everything that the hub may tell. */
      async function busy(t) {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        await twins.follow(client);
        await methods.answer(client, 'any', () => ({ payload: 1 }));
        assert.equal(await stateOf(identity), 'Connected');
        return { identity, client };
      }

      test(`of a ${peer.kind} on ${door.name} is right after a goodbye`, async (t) => {
        const { identity, client } = await busy(t);
        await client.close();
        await hub.until('it is Disconnected', async () => (await stateOf(identity)) === 'Disconnected');
      });

      test(`of a ${peer.kind} on ${door.name} is right when its socket breaks, and it may come back`, async (t) => {
        const { identity, client } = await busy(t);
        devices.tear(client, door);
        await hub.until('it is Disconnected', async () => (await stateOf(identity)) === 'Disconnected');
        const again = await peer.connect(t, door, identity);
        await twins.follow(again);
        assert.equal(await stateOf(identity), 'Connected');
      });

      test(`of a ${peer.kind} on ${door.name} stays Connected when a newer connection takes over`, async (t) => {
        const { identity, client } = await busy(t);
        const lost = new Promise((resolve) => { client.once('disconnect', resolve); });
        const changes = await twins.follow(await peer.connect(t, door, identity));
        await lost;
        assert.equal(await stateOf(identity), 'Connected');
        await twins.desire(identity, { for: 'the newer' });
        assert.equal((await changes.take()).for, 'the newer');
      });

      test(`of a ${peer.kind} on ${door.name} ends with its device: disabled or deleted`, async (t) => {
        const registry = service.registry();
        const [disabled, deleted] = [await busy(t), await busy(t)];
        const lost = [disabled, deleted].map(({ client }) => new Promise((resolve) => { client.once('disconnect', resolve); }));
        const { responseBody } = await registry.get(disabled.identity.deviceId);
        await registry.update({ ...responseBody, status: 'disabled' });
        await registry.delete(deleted.identity.deviceId);
        await Promise.all(lost);
        assert.equal(await stateOf(disabled.identity), 'Disconnected');
        const client = peer.client(t, door, disabled.identity, byKey(disabled.identity, disabled.identity.key));
        await assert.rejects(async () => {
          await client.open();
          await client.getTwin();
        }, { name: 'UnauthorizedError' });
      });
    }
  }

  test('does not depend on another identity of the same device', async (t) => {
    const [MQTT] = CONNECTED_DOORS;
    const device = await devices.create();
    const module = await modules.create({ deviceId: device.deviceId });
    const client = await devices.connect(t, MQTT, device);
    assert.deepEqual([await stateOf(device), await stateOf(module)], ['Connected', 'Disconnected']);
    await modules.connect(t, MQTT, module);
    await client.close();
    await hub.until('the device is Disconnected', async () => (await stateOf(device)) === 'Disconnected');
    assert.equal(await stateOf(module), 'Connected');
  });
});
