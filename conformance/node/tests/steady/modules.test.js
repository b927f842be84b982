'use strict';

// Module identities: kept in the registry, connected with their own keys or certificates, telling the back end who they are. Their twins and
// methods are in the files of twins and methods.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { promisify } = require('node:util');
const { before, describe, test } = require('node:test');
const { ModuleClient } = require('azure-iot-device');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const modules = require('../../support/modules');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { createSelfSigned, thumbprint } = require('../../support/certificates');
const { byCertificate, byKey, byToken, token } = require('../../support/credentials');
const { speaking } = require('../../support/doors');
const { refusal, isRefused } = require('../../support/refusal');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;

const MOST = 20; // article "IoT Hub quotas and throttling": modules of one device
const DOORS = speaking('mqtt', 'amqp');

const file = fileScope();
let registry;
let reader;

before(async () => {
  await service.load();
  registry = service.registry();
  reader = await Reader.open(file);
});

const body = async (promise) => (await promise).responseBody;
const newKey = () => crypto.randomBytes(32).toString('base64');
const get = ({ deviceId, moduleId }) => body(registry.getModule(deviceId, moduleId));
const pathOf = ({ deviceId, moduleId }) => `/devices/${encodeURIComponent(deviceId)}/modules/${encodeURIComponent(moduleId)}`;

/** Goes in and sends; resolves with the event that arrived. */
async function enters(t, door, module, provider) {
  const client = await modules.connect(t, door, module, provider);
  await client.sendEvent(message('hello'));
  return reader.of(module.deviceId).take();
}

async function isKeptOut(t, door, module, provider) {
  const client = modules.client(t, door, module, provider);
  await assert.rejects(async () => {
    await client.open();
    await client.sendEvent(message('must not arrive'));
  }, { name: 'UnauthorizedError' });
}

describe('modules in the registry', () => {
  test('are created, read, listed and removed', async () => {
    const { deviceId } = await devices.create();
    const created = await modules.create({ deviceId, moduleId: 'camera' });
    await modules.create({ deviceId, moduleId: 'radio' });
    const module = await get(created);
    assert.equal(module.moduleId, 'camera');
    assert.equal(module.deviceId, deviceId);
    assert.equal(module.generationId, created.generationId);
    assert.deepEqual((await body(registry.getModulesOnDevice(deviceId))).map((m) => m.moduleId).sort(), ['camera', 'radio']);
    await registry.removeModule(deviceId, 'camera');
    assert.deepEqual((await body(registry.getModulesOnDevice(deviceId))).map((m) => m.moduleId), ['radio']);
    await assert.rejects(get(created), refusal(404, 'ModuleNotFound'));
    await assert.rejects(registry.removeModule(deviceId, 'camera'), refusal(404, 'ModuleNotFound'));
  });

  test('get keys, an etag and a generation when nothing is said about them, and no status', async () => {
    const { deviceId } = await devices.create();
    const module = await body(registry.addModule({ deviceId, moduleId: 'camera' }));
    assert.equal(module.authentication.type, 'sas');
    assert.notEqual(module.authentication.symmetricKey.primaryKey, module.authentication.symmetricKey.secondaryKey);
    assert.match(module.generationId, /^\d+$/);
    assert.ok(module.etag);
    assert.equal(module.connectionState, 'Disconnected');
    assert.equal(module.managedBy, null);
    assert.equal(Number(module.cloudToDeviceMessageCount), 0);
    assert.ok(!('status' in module));
    assert.deepEqual(await get({ deviceId, moduleId: 'camera' }), module);
  });

  test('keep the keys and the manager that they are given', async () => {
    const { deviceId } = await devices.create();
    const symmetricKey = { primaryKey: newKey(), secondaryKey: newKey() };
    await registry.addModule({ deviceId, moduleId: 'camera', managedBy: 'me', authentication: { symmetricKey } });
    const module = await get({ deviceId, moduleId: 'camera' });
    assert.deepEqual(module.authentication.symmetricKey, symmetricKey);
    assert.equal(module.managedBy, 'me');
  });

  test('cannot be created twice, nor on a device that does not exist', async () => {
    const module = await modules.create();
    await assert.rejects(registry.addModule(module), refusal(409, 'ModuleAlreadyExistsOnDevice', 409301));
    await assert.rejects(registry.addModule({ ...module, etag: '*' }), refusal(409, 'ModuleAlreadyExistsOnDevice', 409301));
    await assert.rejects(registry.addModule({ deviceId: devices.freshId(), moduleId: 'camera' }), refusal(404, 'DeviceNotFound'));
  });

  test('are updated under the etag they have, or by force', async () => {
    const stale = await get(await modules.create());
    const fresh = await body(registry.updateModule({ ...stale, managedBy: 'first' }));
    assert.notEqual(fresh.etag, stale.etag);
    assert.equal(fresh.generationId, stale.generationId);
    await assert.rejects(registry.updateModule({ ...stale, managedBy: 'second' }), refusal(412, 'PreconditionFailed'));
    assert.equal((await get(stale)).managedBy, 'first');
    await registry.updateModule({ ...stale, managedBy: 'third' }, true);
    assert.equal((await get(stale)).managedBy, 'third');
    await assert.rejects(registry.updateModule({ ...stale, moduleId: 'nobody' }, true), refusal(404, 'ModuleNotFound'));
  });

  test('are removed under the etag they have', async () => {
    const stale = await get(await modules.create());
    const fresh = await body(registry.updateModule({ ...stale, managedBy: 'me' }));
    const remove = promisify(registry.removeModule.bind(registry)); // the SDK sends an etag in this form only, and answers it to a callback only
    await assert.rejects(remove(stale), refusal(412, 'PreconditionFailed'));
    isRefused(await service.rest('DELETE', pathOf(stale)), 412, 'PreconditionFailed');
    await remove(fresh);
    await assert.rejects(get(stale), refusal(404, 'ModuleNotFound'));
  });

  test(`are at most ${MOST} on a device`, async () => {
    const { deviceId } = await devices.create();
    await Promise.all(Array.from({ length: MOST }, (_, i) => registry.addModule({ deviceId, moduleId: `m${i}` })));
    await assert.rejects(registry.addModule({ deviceId, moduleId: 'one-too-many' }), refusal(413, 'TooManyModulesOnDevice'));
    assert.equal((await body(registry.getModulesOnDevice(deviceId))).length, MOST);
    await registry.removeModule(deviceId, 'm7');
    await registry.addModule({ deviceId, moduleId: 'now-it-fits' });
  });

  test('with every sign of the grammar work, and the id comes back as it is', async () => {
    const module = await modules.create({ moduleId: "m-:.+%_#*?!(),=@;'" });
    assert.equal((await get(module)).moduleId, module.moduleId);
    await registry.removeModule(module.deviceId, module.moduleId);
    await assert.rejects(get(module), refusal(404, 'ModuleNotFound'));
  });

  for (const moduleId of ['no spaces', 'x'.repeat(129), 'a/b', 'ü', '$mine']) {
    test(`called ${moduleId.slice(0, 10)} are refused`, async () => {
      const { deviceId } = await devices.create();
      await assert.rejects(registry.addModule({ deviceId, moduleId }), refusal(400, 'ArgumentInvalid'));
    });
  }

  test('whose path and body disagree are refused', async () => {
    const { deviceId } = await devices.create();
    isRefused(await service.rest('PUT', `/devices/${deviceId}/modules/a`, { body: { deviceId, moduleId: 'b' } }), 400, 'ArgumentInvalid');
    isRefused(await service.rest('PUT', `/devices/${deviceId}/modules/a`, { body: { deviceId: 'other', moduleId: 'a' } }), 400, 'ArgumentInvalid');
  });

  test('go with their device', async () => {
    const module = await modules.create();
    await registry.delete(module.deviceId);
    await devices.create({ deviceId: module.deviceId });
    assert.deepEqual(await body(registry.getModulesOnDevice(module.deviceId)), []);
  });

  test('of an edge device are two from the beginning, and belong to IoT Edge', async () => {
    const { deviceId } = await devices.create({ capabilities: { iotEdge: true } });
    const listed = await body(registry.getModulesOnDevice(deviceId));
    assert.deepEqual(listed.map((m) => [m.moduleId, m.managedBy]).sort(), [['$edgeAgent', 'iotEdge'], ['$edgeHub', 'iotEdge']]);
    assert.equal((await twins.get({ deviceId, moduleId: '$edgeAgent' })).moduleId, '$edgeAgent');
  });
});

describe('what the policies may do with modules', () => {
  for (const [policy, { read, write, serve }] of Object.entries({
    iothubowner: { read: true, write: true, serve: true },
    service: { serve: true },
    device: {},
    registryRead: { read: true },
    registryReadWrite: { read: true, write: true },
  })) {
    test(`${policy}: ${read ? 'reads' : 'does not read'}, ${write ? 'writes' : 'does not write'}, ${serve ? 'serves' : 'does not serve'}`, async () => {
      const client = service.registry(policy);
      const module = await modules.create();
      const check = (allowed, action) => (allowed ? action() : assert.rejects(action(), refusal(401, 'IotHubUnauthorizedAccess')));
      await check(read, () => client.getModule(module.deviceId, module.moduleId));
      await check(read, () => client.getModulesOnDevice(module.deviceId));
      await check(serve, () => client.getModuleTwin(module.deviceId, module.moduleId));
      await check(serve, () => client.updateModuleTwin(module.deviceId, module.moduleId, { tags: { a: 1 } }, '*'));
      await check(write, () => client.addModule({ deviceId: module.deviceId, moduleId: 'radio' }));
      await check(write, () => client.updateModule({ ...module, managedBy: 'me' }, true));
      await check(write, () => client.removeModule(module.deviceId, module.moduleId));
    });
  }
});

for (const door of DOORS) {
  describe(`modules over ${door.name}`, () => {
    test('send telemetry under their own name', async (t) => {
      const module = await modules.create();
      const client = await modules.connect(t, door, module);
      await client.sendEvent(message('hello', { messageId: 'm1', properties: { colour: 'red' } }));
      await client.sendOutputEvent('pictures', message('output'));
      const [event, output] = await reader.of(module.deviceId).takeMany(2);
      assert.equal(event.systemProperties['iothub-connection-module-id'], 'camera');
      assert.equal(event.systemProperties['iothub-connection-auth-generation-id'], module.generationId);
      assert.equal(event.messageId, 'm1');
      assert.equal(event.properties.colour, 'red');
      assert.equal(output.body.toString(), 'output');
      assert.equal(output.systemProperties['iothub-connection-module-id'], 'camera');
    });

    test('may listen to inputs, on which nothing comes without an edge hub, and go on', async (t) => {
      const module = await modules.create();
      const client = await modules.connect(t, door, module);
      let lost = false;
      client.on('disconnect', () => { lost = true; });
      client.on('inputMessage', () => {});
      await client.sendEvent(message('still here'));
      assert.equal((await reader.of(module.deviceId).take()).body.toString(), 'still here');
      assert.equal(lost, false);
    });

    test('live beside their device and each other', async (t) => {
      const device = await devices.create();
      const clients = [];
      for (const moduleId of ['one', 'two']) clients.push(await modules.connect(t, door, await modules.create({ deviceId: device.deviceId, moduleId })));
      clients.push(await devices.connect(t, door, device));
      let lost = 0;
      for (const client of clients) client.on('disconnect', () => { lost++; });
      for (const client of clients) await client.sendEvent(message('hello'));
      for (const client of clients) await client.sendEvent(message('again'));
      const senders = (await reader.of(device.deviceId).takeMany(6)).map((e) => e.systemProperties['iothub-connection-module-id']);
      assert.deepEqual(senders, ['one', 'two', undefined, 'one', 'two', undefined]);
      assert.equal(lost, 0);
    });

    test('enter with their primary and their secondary key, and not with others', async (t) => {
      const module = await modules.create();
      await enters(t, door, module);
      await enters(t, door, module, byKey(module, module.secondaryKey));
      await isKeptOut(t, door, module, byKey(module, newKey()));
      const sibling = await modules.create({ deviceId: module.deviceId, moduleId: 'radio' });
      await isKeptOut(t, door, module, byToken(module, token(`${module.host}/devices/${sibling.deviceId}/modules/radio`, sibling.key)));
    });

    test('may not enter with the key of their device', async (t) => {
      const device = await devices.create();
      const module = await modules.create({ deviceId: device.deviceId });
      await isKeptOut(t, door, module, byKey(module, device.key));
    });

    test('enter with a certificate', async (t) => {
      const certificate = createSelfSigned('module');
      const module = await modules.create({
        authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: thumbprint(certificate.cert), secondaryThumbprint: null } },
      });
      const event = await enters(t, door, module, byCertificate(module, certificate));
      assert.equal(event.systemProperties['iothub-connection-module-id'], module.moduleId);
      assert.match(JSON.parse(event.systemProperties['iothub-connection-auth-method']).type, /^x509/);
    });

    test('enter with the connection string that back ends put together', async (t) => {
      const { host, deviceId, moduleId, key } = await modules.create();
      const client = ModuleClient.fromConnectionString(`HostName=${host};DeviceId=${deviceId};ModuleId=${moduleId};SharedAccessKey=${key}`, door.Transport);
      t.after(() => client.close());
      await client.open();
      await client.sendEvent(message('hello'));
      assert.equal((await reader.of(deviceId).take()).systemProperties['iothub-connection-module-id'], moduleId);
    });

    test('show in the registry while they are connected', async (t) => {
      const module = await modules.create();
      const client = await modules.connect(t, door, module);
      await client.sendEvent(message('hello'));
      assert.equal((await get(module)).connectionState, 'Connected');
      assert.equal((await body(registry.get(module.deviceId))).connectionState, 'Disconnected');
      await client.close();
      await hub.until('the registry says Disconnected', async () => (await get(module)).connectionState === 'Disconnected');
    });

    for (const [what, end] of Object.entries({
      'they are removed': ({ deviceId, moduleId }) => registry.removeModule(deviceId, moduleId),
      'their device is disabled': async ({ deviceId }) => registry.update({ ...await body(registry.get(deviceId)), status: 'disabled' }),
      'their device is deleted': ({ deviceId }) => registry.delete(deviceId),
    })) {
      test(`lose their connection when ${what}, and stay out`, async (t) => {
        const module = await modules.create();
        const client = await modules.connect(t, door, module);
        const lost = new Promise((resolve) => { client.once('disconnect', resolve); });
        await client.sendEvent(message('hello'));
        await end(module);
        await lost;
        await isKeptOut(t, door, module);
      });
    }
  });
}
