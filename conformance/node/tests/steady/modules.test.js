'use strict';

// Module identities: made in the registry, connected with their own keys, telling the back end who they are.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { ModuleClient } = require('azure-iot-device');
const { NoRetry } = require('azure-iot-common');
const devices = require('../../support/devices');
const service = require('../../support/service');
const { byKey } = require('../../support/credentials');
const { speaking } = require('../../support/doors');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;

const file = fileScope();
let registry;
let reader;

before(async () => {
  await service.load();
  registry = service.registry();
  reader = await Reader.open(file);
});

const body = async (promise) => (await promise).responseBody;

async function createModule(deviceId, moduleId) {
  const module = await body(registry.addModule({ deviceId, moduleId }));
  return { host: service.host, deviceId, moduleId, generationId: module.generationId, key: module.authentication.symmetricKey.primaryKey };
}

function moduleClient(t, door, module, provider = byKey(module, module.key)) {
  const client = ModuleClient.fromAuthenticationProvider(provider, door.Transport);
  client.setRetryPolicy(new NoRetry());
  t.after(() => client.close());
  return client;
}

describe('modules in the registry', () => {
  test('are created, read, listed and removed', async () => {
    const { deviceId } = await devices.create();
    const created = await createModule(deviceId, 'camera');
    await createModule(deviceId, 'radio');
    const module = await body(registry.getModule(deviceId, 'camera'));
    assert.equal(module.moduleId, 'camera');
    assert.equal(module.deviceId, deviceId);
    assert.equal(module.generationId, created.generationId);
    assert.deepEqual((await body(registry.getModulesOnDevice(deviceId))).map((m) => m.moduleId).sort(), ['camera', 'radio']);
    await registry.removeModule(deviceId, 'camera');
    assert.deepEqual((await body(registry.getModulesOnDevice(deviceId))).map((m) => m.moduleId), ['radio']);
  });

  test('cannot be created twice, nor on a device that does not exist', async () => {
    const { deviceId } = await devices.create();
    await createModule(deviceId, 'camera');
    await assert.rejects(registry.addModule({ deviceId, moduleId: 'camera' }), { name: 'DeviceAlreadyExistsError' });
    await assert.rejects(registry.addModule({ deviceId: devices.freshId(), moduleId: 'camera' }), { name: 'DeviceNotFoundError' });
  });
});

for (const door of speaking('mqtt', 'amqp')) {
  describe(`modules over ${door.name}`, () => {
    test('send telemetry under their own name', async (t) => {
      const { deviceId } = await devices.create();
      const module = await createModule(deviceId, 'camera');
      const client = moduleClient(t, door, module);
      await client.open();
      await client.sendEvent(message('hello', { messageId: 'm1', properties: { colour: 'red' } }));
      await client.sendOutputEvent('pictures', message('output'));
      const [event, output] = await reader.of(deviceId).takeMany(2);
      assert.equal(event.systemProperties['iothub-connection-module-id'], 'camera');
      assert.equal(event.systemProperties['iothub-connection-auth-generation-id'], module.generationId);
      assert.equal(event.messageId, 'm1');
      assert.equal(event.properties.colour, 'red');
      assert.equal(output.body.toString(), 'output');
      assert.equal(output.systemProperties['iothub-connection-module-id'], 'camera');
    });

    test('live beside their device and each other', async (t) => {
      const device = await devices.create();
      const clients = [moduleClient(t, door, await createModule(device.deviceId, 'one')), moduleClient(t, door, await createModule(device.deviceId, 'two'))];
      for (const client of clients) await client.open();
      clients.push(await devices.connect(t, door, device));
      let lost = 0;
      for (const client of clients) client.on('disconnect', () => { lost++; });
      for (const client of clients) await client.sendEvent(message('hello'));
      for (const client of clients) await client.sendEvent(message('again'));
      const senders = (await reader.of(device.deviceId).takeMany(6)).map((e) => e.systemProperties['iothub-connection-module-id']);
      assert.deepEqual(senders, ['one', 'two', undefined, 'one', 'two', undefined]);
      assert.equal(lost, 0);
    });

    test('may not enter with the key of their device', async (t) => {
      const device = await devices.create();
      const module = await createModule(device.deviceId, 'camera');
      const client = moduleClient(t, door, module, byKey(module, device.key));
      await assert.rejects(async () => {
        await client.open();
        await client.sendEvent(message('must not arrive'));
      }, { name: 'UnauthorizedError' });
    });
  });
}
