'use strict';

// The identity registry through the service SDK.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { before, describe, test } = require('node:test');
const { Registry } = require('azure-iothub');
const devices = require('../../support/devices');
const service = require('../../support/service');
const { createSelfSigned, thumbprint } = require('../../support/certificates');

const { freshId } = devices;
const newKey = () => crypto.randomBytes(32).toString('base64');

let registry;

before(async () => {
  await service.load();
  registry = service.registry();
});

const body = async (promise) => (await promise).responseBody;
const get = (deviceId) => body(registry.get(deviceId));

describe('creating a device', () => {
  test('makes keys, an etag and a generation, and starts it disconnected', async () => {
    const deviceId = freshId();
    const { responseBody, httpResponse } = await registry.create({ deviceId });
    assert.equal(httpResponse.statusCode, 200);
    assert.equal(responseBody.deviceId, deviceId);
    assert.equal(responseBody.status, 'enabled');
    assert.equal(responseBody.connectionState, 'Disconnected');
    assert.equal(responseBody.authentication.type, 'sas');
    assert.match(responseBody.generationId, /^\d+$/);
    assert.ok(responseBody.etag);
    assert.equal(Number(responseBody.cloudToDeviceMessageCount), 0);
    const { primaryKey, secondaryKey } = responseBody.authentication.symmetricKey;
    assert.ok(Buffer.from(primaryKey, 'base64').length >= 16);
    assert.notEqual(primaryKey, secondaryKey);
    assert.deepEqual(await get(deviceId), responseBody);
  });

  test('keeps the keys, the status and its reason', async () => {
    const deviceId = freshId();
    const [primaryKey, secondaryKey] = [newKey(), newKey()];
    await registry.create({ deviceId, status: 'disabled', statusReason: 'in repair', authentication: { type: 'sas', symmetricKey: { primaryKey, secondaryKey } } });
    const device = await get(deviceId);
    assert.equal(device.status, 'disabled');
    assert.equal(device.statusReason, 'in repair');
    assert.equal(device.authentication.symmetricKey.primaryKey, primaryKey);
    assert.equal(device.authentication.symmetricKey.secondaryKey, secondaryKey);
  });

  test('keeps thumbprints', async () => {
    const deviceId = freshId();
    const primaryThumbprint = thumbprint(createSelfSigned('registry').cert);
    await registry.create({ deviceId, authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint: primaryThumbprint } } });
    const { authentication } = await get(deviceId);
    assert.equal(authentication.type, 'selfSigned');
    assert.equal(authentication.x509Thumbprint.primaryThumbprint, primaryThumbprint);
    assert.ok(!authentication.symmetricKey.primaryKey);
  });

  test('twice is DeviceAlreadyExistsError', async () => {
    const { deviceId } = await devices.create();
    await assert.rejects(registry.create({ deviceId }), { name: 'DeviceAlreadyExistsError' });
  });

  test('with an id against the grammar is ArgumentError', async () => {
    await assert.rejects(registry.create({ deviceId: 'no spaces allowed' }), { name: 'ArgumentError' });
    await assert.rejects(registry.create({ deviceId: 'x'.repeat(129) }), { name: 'ArgumentError' });
  });

  test('with every sign of the grammar works, and the id comes back as it is', async () => {
    const deviceId = `${freshId()}-:.+%_#*?!(),=@;$'`;
    await registry.create({ deviceId });
    assert.equal((await get(deviceId)).deviceId, deviceId);
    await registry.delete(deviceId);
    await assert.rejects(registry.get(deviceId), { name: 'DeviceNotFoundError' });
  });

  test('with a key that is not base64 is ArgumentError', async () => {
    const authentication = { type: 'sas', symmetricKey: { primaryKey: '***', secondaryKey: '***' } };
    await assert.rejects(registry.create({ deviceId: freshId(), authentication }), { name: 'ArgumentError' });
  });

  test('distinguishes upper and lower case', async () => {
    const deviceId = freshId('Case');
    await registry.create({ deviceId });
    await assert.rejects(registry.get(deviceId.toLowerCase()), { name: 'DeviceNotFoundError' });
  });
});

describe('reading devices', () => {
  test('one that does not exist is DeviceNotFoundError', async () => {
    await assert.rejects(registry.get(freshId()), (err) => {
      assert.equal(err.name, 'DeviceNotFoundError');
      assert.equal(err.response.headers['iothub-errorcode'], 'DeviceNotFound');
      return true;
    });
  });

  test('lists them all', async () => {
    const created = [await devices.create(), await devices.create()];
    const listed = (await body(registry.list())).map((d) => d.deviceId);
    for (const { deviceId } of created) assert.ok(listed.includes(deviceId), `${deviceId} is listed`);
  });

  test('counts them', async () => {
    const statistics = () => body(registry.getRegistryStatistics());
    const before = await statistics();
    await devices.create();
    await devices.create({ status: 'disabled' });
    const after = await statistics();
    assert.equal(after.totalDeviceCount, before.totalDeviceCount + 2);
    assert.equal(after.enabledDeviceCount, before.enabledDeviceCount + 1);
    assert.equal(after.disabledDeviceCount, before.disabledDeviceCount + 1);
  });
});

describe('updating and deleting a device', () => {
  test('an update replaces what it says and gives a new etag', async () => {
    const { deviceId } = await devices.create();
    const device = await get(deviceId);
    const updated = await body(registry.update({ ...device, status: 'disabled', statusReason: 'gone' }));
    assert.equal(updated.status, 'disabled');
    assert.notEqual(updated.etag, device.etag);
    assert.equal(updated.generationId, device.generationId);
    assert.deepEqual(updated.authentication, device.authentication);
    assert.deepEqual(await get(deviceId), updated);
  });

  test('an update of a device that does not exist is DeviceNotFoundError', async () => {
    await assert.rejects(registry.update({ deviceId: freshId() }), { name: 'DeviceNotFoundError' });
  });

  test('a deleted device is gone, and one of the same id is another one', async () => {
    const device = await devices.create();
    await registry.delete(device.deviceId);
    await assert.rejects(registry.get(device.deviceId), { name: 'DeviceNotFoundError' });
    await assert.rejects(registry.delete(device.deviceId), { name: 'DeviceNotFoundError' });
    const again = await devices.create({ deviceId: device.deviceId });
    assert.notEqual(again.generationId, device.generationId);
    assert.notEqual(again.key, device.key);
  });
});

describe('bulk operations', () => {
  const fleet = (count) => Array.from({ length: count }, () => ({
    deviceId: freshId('bulk'), status: 'enabled', authentication: { type: 'sas', symmetricKey: { primaryKey: newKey(), secondaryKey: newKey() } },
  }));

  test('add, update and remove a hundred devices', async () => {
    const all = fleet(100);
    const added = await body(registry.addDevices(all));
    assert.equal(added.isSuccessful, true);
    assert.deepEqual(added.errors, []);
    assert.equal((await get(all[99].deviceId)).authentication.symmetricKey.primaryKey, all[99].authentication.symmetricKey.primaryKey);

    const updated = await body(registry.updateDevices(all.map((d) => ({ ...d, status: 'disabled' })), true));
    assert.equal(updated.isSuccessful, true);
    assert.equal((await get(all[0].deviceId)).status, 'disabled');

    const removed = await body(registry.removeDevices(all, true));
    assert.equal(removed.isSuccessful, true);
    await assert.rejects(registry.get(all[50].deviceId), { name: 'DeviceNotFoundError' });
  });

  test('say which devices failed and carry out the others', async () => {
    const [existing, fresh] = fleet(2);
    await registry.addDevices([existing]);
    await assert.rejects(registry.addDevices([existing, fresh]), (err) => {
      assert.equal(err.name, 'ArgumentError');
      const answer = JSON.parse(err.responseBody);
      assert.equal(answer.isSuccessful, false);
      assert.equal(answer.errors.length, 1);
      assert.equal(answer.errors[0].deviceId, existing.deviceId);
      assert.equal(answer.errors[0].errorCode, 409001);
      return true;
    });
    assert.equal((await get(fresh.deviceId)).deviceId, fresh.deviceId);
  });

  test('hold an etag against the device when asked to', async () => {
    const [device] = fleet(1);
    await registry.addDevices([device]);
    const stale = await get(device.deviceId);
    await registry.update({ ...stale, statusReason: 'changed meanwhile' });
    const withEtag = (etag) => ({ ...device, eTag: etag });
    await assert.rejects(registry.updateDevices([withEtag(stale.etag)], false), (err) => JSON.parse(err.responseBody).errors[0].errorCode === 412001);
    const fresh = await get(device.deviceId);
    assert.equal((await body(registry.removeDevices([withEtag(fresh.etag)], false))).isSuccessful, true);
  });
});

describe('the connection string that the hub prints', () => {
  test('opens the registry as it stands', async () => {
    const plain = Registry.fromConnectionString(service.connectionString);
    const { deviceId } = await devices.create();
    assert.equal((await body(plain.get(deviceId))).deviceId, deviceId);
  });
});
