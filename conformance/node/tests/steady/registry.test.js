'use strict';

// The identity registry through the service SDK.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { before, describe, test } = require('node:test');
const { Registry } = require('azure-iothub');
const devices = require('../../support/devices');
const service = require('../../support/service');
const hub = require('../../support/hub');
const twins = require('../../support/twins');
const { createSelfSigned, thumbprint } = require('../../support/certificates');
const { speaking } = require('../../support/doors');
const { refusal, isRefused } = require('../../support/refusal');

const { freshId } = devices;
const newKey = () => crypto.randomBytes(32).toString('base64');

let registry;

before(async () => {
  await service.load();
  registry = service.registry();
});

const body = async (promise) => (await promise).responseBody;
const get = (deviceId) => body(registry.get(deviceId));
const pathOf = (deviceId) => `/devices/${encodeURIComponent(deviceId)}`;
const put = (deviceId, device, headers) => service.rest('PUT', pathOf(deviceId), { body: device, headers });

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
    for (const sign of ['/', '\\', '"', '<', '&', '~', '[', '|', 'ü', '\u0001']) {
      await assert.rejects(registry.create({ deviceId: `${freshId()}${sign}` }), refusal(400, 'ArgumentInvalid'), sign);
    }
  });

  test('with every sign of the grammar works, and the id comes back as it is', async () => {
    const deviceId = `${freshId()}-:.+%_#*?!(),=@;$'`;
    await registry.create({ deviceId });
    assert.equal((await get(deviceId)).deviceId, deviceId);
    await registry.delete(deviceId);
    await assert.rejects(registry.get(deviceId), { name: 'DeviceNotFoundError' });
  });

  test('with a certificate of an authority keeps neither keys nor thumbprints', async () => {
    const { deviceId } = await devices.create({ authentication: { type: 'certificateAuthority' } });
    const { authentication } = await get(deviceId);
    assert.equal(authentication.type, 'certificateAuthority');
    assert.ok(!authentication.symmetricKey.primaryKey && !authentication.x509Thumbprint.primaryThumbprint);
  });

  test('has every documented field', async () => {
    const { deviceId } = await devices.create();
    const { text, body, headers } = await service.rest('GET', pathOf(deviceId));
    assert.equal(headers.get('etag'), `"${body.etag}"`);
    assert.ok(text.startsWith('{"deviceId":'));
    for (const time of ['connectionStateUpdatedTime', 'statusUpdatedTime', 'lastActivityTime']) assert.match(body[time], /^0001-01-01T00:00:00Z?$/);
    assert.equal(body.statusReason, null);
    assert.deepEqual(body.authentication.x509Thumbprint, { primaryThumbprint: null, secondaryThumbprint: null });
    assert.deepEqual(body.capabilities, { iotEdge: false });
    assert.match(Buffer.from(body.etag, 'base64').toString(), /^\d+$/);
  });

  for (const [what, fields] of Object.entries({
    'a key that is not base64': { authentication: { type: 'sas', symmetricKey: { primaryKey: '***', secondaryKey: '***' } } },
    'a key of less than 16 bytes': { authentication: { type: 'sas', symmetricKey: { primaryKey: 'c2hvcnQ=', secondaryKey: newKey() } } },
    'a key of more than 64 bytes': { authentication: { type: 'sas', symmetricKey: { primaryKey: crypto.randomBytes(65).toString('base64'), secondaryKey: newKey() } } },
    'one key of two': { authentication: { type: 'sas', symmetricKey: { primaryKey: newKey() } } },
    'a thumbprint that is none': { authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: 'abc' } } },
    'an unknown way to authenticate': { authentication: { type: 'password' } },
    'no way to authenticate': { authentication: { type: 'none' } },
    'an unknown status': { status: 'asleep' },
    'a reason of more than 128 characters': { statusReason: 'x'.repeat(129) },
    'a scope that is none': { deviceScope: 'nowhere' },
  })) {
    test(`with ${what} is ArgumentError`, async () => {
      const deviceId = freshId();
      await assert.rejects(registry.create({ deviceId, ...fields }), refusal(400, 'ArgumentInvalid'));
      await assert.rejects(registry.get(deviceId), { name: 'DeviceNotFoundError' });
    });
  }

  test('under another name than its path says is refused', async () => {
    isRefused(await put(freshId(), { deviceId: freshId() }), 400, 'ArgumentInvalid');
  });

  test('without If-Match never changes one that is there, with an etag in the body or not', async () => {
    const { deviceId } = await devices.create();
    const before = await get(deviceId);
    isRefused(await put(deviceId, { deviceId, status: 'disabled' }), 409, 'DeviceAlreadyExists');
    isRefused(await put(deviceId, { ...before, status: 'disabled' }), 409, 'DeviceAlreadyExists');
    assert.deepEqual(await get(deviceId), before);
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

  test('lists at most as many as it is asked for, from 1 to 1000', async () => {
    for (let i = 0; i < 3; i++) await devices.create();
    const list = (top) => service.rest('GET', `/devices?top=${top}`);
    assert.equal((await list(2)).body.length, 2);
    assert.ok((await list(1000)).body.length >= 3);
    for (const top of [0, 1001, -1, 'many']) isRefused(await list(top), 400, 'ArgumentInvalid');
  });

  test('counts those that are connected', async (t) => {
    const connected = async () => (await service.rest('GET', '/statistics/service')).body.connectedDeviceCount;
    const before = await connected();
    const [door] = speaking('mqtt');
    const client = await devices.connect(t, door, await devices.create());
    assert.equal(await connected(), before + 1);
    await client.close();
    await hub.until('it is not counted any more', async () => (await connected()) === before);
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

  test('an update of the way to authenticate takes away what belonged to the old one', async () => {
    const { deviceId } = await devices.create();
    const device = await get(deviceId);
    const primaryThumbprint = thumbprint(createSelfSigned('registry').cert);
    const certified = await body(registry.update({ ...device, authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } } }));
    assert.equal(certified.authentication.type, 'selfSigned');
    assert.ok(!certified.authentication.symmetricKey.primaryKey);
    const keyed = await body(registry.update({ deviceId })); // the SDK then asks for keys to be made
    assert.equal(keyed.authentication.type, 'sas');
    assert.ok(keyed.authentication.symmetricKey.primaryKey);
    assert.ok(!keyed.authentication.x509Thumbprint.primaryThumbprint);
  });

  test('an etag is held against the device, quoted or not; "*" stands for any', async () => {
    const { deviceId } = await devices.create();
    const stale = await get(deviceId);
    const match = (etag) => ({ 'if-match': etag });
    assert.equal((await put(deviceId, stale, match(`"${stale.etag}"`))).status, 200);
    isRefused(await put(deviceId, stale, match(`"${stale.etag}"`)), 412, 'PreconditionFailed');
    assert.equal((await put(deviceId, stale, match((await get(deviceId)).etag))).status, 200);
    for (const any of ['*', '"*"']) assert.equal((await put(deviceId, stale, match(any))).status, 200);
    isRefused(await put(freshId(), {}, match('*')), 404, 'DeviceNotFound');
    isRefused(await service.rest('DELETE', pathOf(deviceId)), 412, 'PreconditionFailed');
    isRefused(await service.rest('DELETE', pathOf(deviceId), { headers: match(`"${stale.etag}"`) }), 412, 'PreconditionFailed');
    assert.equal((await service.rest('DELETE', pathOf(deviceId), { headers: match(`"${(await get(deviceId)).etag}"`) })).status, 204);
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

  test('take certificates, edge devices and their children, as single requests do', async () => {
    const primaryThumbprint = thumbprint(createSelfSigned('bulk').cert);
    const [certified, authority, edge] = [freshId('bulk'), freshId('bulk'), freshId('bulk')];
    const added = await body(registry.addDevices([
      { deviceId: certified, authentication: { x509Thumbprint: { primaryThumbprint, secondaryThumbprint: primaryThumbprint } } },
      { deviceId: authority, authentication: { type: 'certificateAuthority' } },
      { deviceId: edge, capabilities: { iotEdge: true } },
    ]));
    assert.equal(added.isSuccessful, true);
    const { authentication } = await get(certified);
    assert.equal(authentication.type, 'selfSigned');
    assert.equal(authentication.x509Thumbprint.primaryThumbprint, primaryThumbprint);
    assert.equal((await get(authority)).authentication.type, 'certificateAuthority');
    const { deviceScope } = await get(edge);
    assert.match(deviceScope, /^ms-azure-iot-edge:/);
    const child = freshId('bulk');
    await registry.addDevices([{ deviceId: child, deviceScope }]);
    assert.deepEqual((await get(child)).parentScopes, [deviceScope]);
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

describe('bulk operations on twins and modules', () => {
  const bulk = (...items) => service.rest('POST', '/devices', { body: items });
  const failures = ({ body }) => body.errors.map(({ deviceId, moduleId, errorCode }) => [deviceId, moduleId ?? null, errorCode]);

  test('create devices with their tags and desired properties, through the SDK', async () => {
    const deviceId = freshId('bulk');
    const { isSuccessful } = await body(registry.addDevices([{ deviceId, status: 'enabled', tags: { place: 'roof' }, properties: { desired: { interval: 5 } } }]));
    assert.equal(isSuccessful, true);
    const twin = await twins.get({ deviceId });
    assert.deepEqual(twin.tags, { place: 'roof' });
    assert.equal(twin.properties.desired.interval, 5);
  });

  test('update twins, and hold their etags against them when asked to', async () => {
    const { deviceId } = await devices.create();
    const { etag } = await twins.patch({ deviceId }, { tags: { a: 1, b: 1 } });
    const updated = await bulk({ id: deviceId, importMode: 'updateTwin', tags: { a: null, c: 1 }, properties: { desired: { d: 1 } } });
    assert.equal(updated.status, 200);
    assert.deepEqual(updated.body, { isSuccessful: true, errors: [], warnings: [] });
    const twin = await twins.get({ deviceId });
    assert.deepEqual(twin.tags, { b: 1, c: 1 });
    assert.equal(twin.properties.desired.d, 1);
    const stale = await bulk({ id: deviceId, importMode: 'updateTwinIfMatchETag', twinETag: etag, tags: { a: 2 } });
    assert.equal(stale.status, 400);
    assert.deepEqual(failures(stale), [[deviceId, null, 412001]]);
    const fresh = await bulk({ id: deviceId, importMode: 'updateTwinIfMatchETag', twinETag: twin.etag, tags: { a: 2 } });
    assert.equal(fresh.body.isSuccessful, true);
    assert.equal((await twins.get({ deviceId })).tags.a, 2);
  });

  test('reach modules', async () => {
    const { deviceId } = await devices.create();
    assert.equal((await bulk({ id: deviceId, moduleId: 'camera', importMode: 'create', tags: { lens: 'wide' } })).body.isSuccessful, true);
    assert.equal((await twins.get({ deviceId, moduleId: 'camera' })).tags.lens, 'wide');
    const twice = await bulk({ id: deviceId, moduleId: 'camera', importMode: 'create' });
    assert.deepEqual(failures(twice), [[deviceId, 'camera', 409301]]);
    assert.equal((await bulk({ id: deviceId, moduleId: 'camera', importMode: 'delete' })).body.isSuccessful, true);
    assert.deepEqual(await body(registry.getModulesOnDevice(deviceId)), []);
  });

  test('fail one by one, each with its own error, and leave the others done', async () => {
    const { deviceId: there } = await devices.create();
    const [fresh, badTwin, missing, illegal] = [freshId('bulk'), freshId('bulk'), freshId('bulk'), 'no spaces'];
    const answer = await bulk(
      { id: there, importMode: 'create' },
      { id: badTwin, importMode: 'create', tags: { 'a.b': 1 } },
      { id: missing, importMode: 'update' },
      { id: illegal, importMode: 'create' },
      { id: fresh, importMode: 'create' },
    );
    assert.equal(answer.status, 400);
    assert.equal(answer.body.isSuccessful, false);
    assert.deepEqual(failures(answer), [[there, null, 409001], [badTwin, null, 400004], [missing, null, 404001], [illegal, null, 400004]]);
    for (const error of answer.body.errors) assert.ok(error.errorStatus);
    assert.equal((await get(fresh)).deviceId, fresh);
    await assert.rejects(registry.get(badTwin), { name: 'DeviceNotFoundError' });
  });

  test('are refused as a whole: an unknown mode, the same device twice, more than a hundred, no list', async () => {
    const id = freshId('bulk');
    isRefused(await bulk({ id, importMode: 'conjure' }), 400, 'ArgumentInvalid');
    isRefused(await bulk({ id, importMode: 'create' }, { id, importMode: 'create' }), 400, 'DeviceDefinedMultipleTimes');
    isRefused(await bulk(...Array.from({ length: 101 }, () => ({ id: freshId('bulk'), importMode: 'create' }))), 413, 'TooManyDevices');
    const noList = await service.rest('POST', '/devices', { body: { id, importMode: 'create' } });
    assert.equal(noList.status, 400, noList.text);
    await assert.rejects(registry.get(id), { name: 'DeviceNotFoundError' });
  });
});

describe('edge devices', () => {
  const edge = { capabilities: { iotEdge: true } };

  test('get a scope of their own that names them and never changes', async () => {
    const { deviceId, generationId } = await devices.create(edge);
    const device = await get(deviceId);
    assert.deepEqual(device.capabilities, { iotEdge: true });
    assert.match(device.deviceScope, new RegExp(`^ms-azure-iot-edge://${deviceId}-\\d+$`));
    assert.ok(generationId);
    const updated = await body(registry.update({ ...device, statusReason: 'moved' }));
    assert.equal(updated.deviceScope, device.deviceScope);
    await assert.rejects(registry.update({ ...device, deviceScope: 'ms-azure-iot-edge://other-1' }), refusal(400, 'InvalidDeviceScope'));
  });

  test('are parents of leaves, which carry their scope', async () => {
    const parent = await get((await devices.create(edge)).deviceId);
    const { deviceId } = await devices.create({ deviceScope: parent.deviceScope });
    const leaf = await get(deviceId);
    assert.equal(leaf.deviceScope, parent.deviceScope);
    assert.deepEqual(leaf.parentScopes, [parent.deviceScope]);
    const orphan = await body(registry.update({ ...leaf, deviceScope: '' }));
    assert.ok(!orphan.deviceScope);
    assert.ok(!orphan.parentScopes?.length);
  });

  test('are parents of edge devices, which keep a scope of their own', async () => {
    const parent = await get((await devices.create(edge)).deviceId);
    const { deviceId } = await devices.create({ ...edge, parentScopes: [parent.deviceScope] });
    const child = await get(deviceId);
    assert.notEqual(child.deviceScope, parent.deviceScope);
    assert.deepEqual(child.parentScopes, [parent.deviceScope]);
  });

  test('may become so later', async () => {
    const { deviceId } = await devices.create();
    const updated = await body(registry.update({ ...await get(deviceId), ...edge }));
    assert.match(updated.deviceScope, /^ms-azure-iot-edge:/);
    assert.equal((await body(registry.getModulesOnDevice(deviceId))).length, 2);
  });
});

describe('the connection string that the hub prints', () => {
  test('opens the registry as it stands', async () => {
    const plain = Registry.fromConnectionString(service.connectionString);
    const { deviceId } = await devices.create();
    assert.equal((await body(plain.get(deviceId))).deviceId, deviceId);
  });
});
