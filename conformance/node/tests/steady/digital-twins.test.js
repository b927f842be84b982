'use strict';

// Digital twins: the same twin as IoT Plug and Play sees it, through the SDK's digital twin client.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const methods = require('../../support/methods');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { speaking } = require('../../support/doors');
const { isRefused } = require('../../support/refusal');

const MODEL = 'dtmi:com:example:TemperatureController;1';
const DOORS = speaking('mqtt', 'amqp');
const [MQTT] = DOORS;

let client;

before(async () => {
  await service.load();
  client = service.digitalTwins();
});

/** A device that says which model it is, connected. */
async function modelled(t, door = MQTT) {
  const device = await devices.create();
  const made = devices.client(t, door, device);
  await made.setOptions({ modelId: MODEL });
  await made.open();
  return { device, client: made };
}

async function get({ deviceId }) {
  const { _response, ...twin } = await client.getDigitalTwin(deviceId);
  return twin;
}

/** The SDK hands the answer of an update to a callback only. */
function update({ deviceId }, patch, etag) {
  return new Promise((resolve, reject) => {
    client.updateDigitalTwin(deviceId, patch, etag, (err, _result, response) => (err ? reject(err) : resolve(response)));
  });
}

/** For assert.rejects: the RestError of an answer with this status and this name in the header iothub-errorcode. */
function refusal(status, errorCode) {
  return (err) => {
    assert.equal(err.statusCode, status, err.stack);
    const { headers, body: text } = err.response;
    isRefused({ status, headers: { get: (name) => headers.get(name) }, text }, status, errorCode);
    return true;
  };
}

describe('a digital twin', () => {
  test('names its device and its model', async (t) => {
    const { device } = await modelled(t);
    const twin = await get(device);
    assert.equal(twin.$dtId, device.deviceId);
    assert.equal(twin.$metadata.$model, MODEL);
  });

  test('shows properties and components with what is known of them', async (t) => {
    const { device, client: reporter } = await modelled(t);
    await twins.desire(device, { targetTemperature: 21, thermostat1: { __t: 'c', targetTemperature: 20 } });
    await twins.report(reporter, {
      serialNumber: 'alwayS0',
      targetTemperature: { value: 21, ac: 200, av: 2, ad: 'done' },
      thermostat1: { __t: 'c', maxTemp: 30.5, targetTemperature: { value: 20, ac: 202, av: 2 } },
    });
    const twin = await get(device);
    assert.equal(twin.serialNumber, 'alwayS0');
    assert.ok(!Number.isNaN(Date.parse(twin.$metadata.serialNumber.lastUpdateTime)));
    assert.equal(twin.targetTemperature, 21);
    const { desiredValue, desiredVersion, ackVersion, ackCode, ackDescription } = twin.$metadata.targetTemperature;
    assert.deepEqual({ desiredValue, desiredVersion, ackVersion, ackCode, ackDescription },
      { desiredValue: 21, desiredVersion: 2, ackVersion: 2, ackCode: 200, ackDescription: 'done' });
    assert.equal(twin.thermostat1.maxTemp, 30.5);
    assert.equal(twin.thermostat1.targetTemperature, 20);
    assert.equal(twin.thermostat1.$metadata.targetTemperature.desiredValue, 20);
    assert.equal(twin.thermostat1.$metadata.targetTemperature.ackCode, 202);
    assert.ok(!('__t' in twin.thermostat1));
  });

  for (const door of DOORS) {
    test(`is patched, which a device hears on ${door.name} as desired properties`, async (t) => {
      const device = await devices.create();
      const changes = await twins.follow(await devices.connect(t, door, device));
      const response = await update(device, [{ op: 'add', path: '/targetTemperature', value: 42 }]);
      assert.equal(response.status, 202);
      assert.match(response.headers.get('etag'), /^"?.+"?$/);
      assert.match(response.headers.get('location'), /digitaltwins/i);
      assert.deepEqual(await changes.take(), { targetTemperature: 42, $version: 2 });
      await update(device, [{ op: 'replace', path: '/targetTemperature', value: 43 }]);
      assert.deepEqual(await changes.take(), { targetTemperature: 43, $version: 3 });
      await update(device, [{ op: 'add', path: '/thermostat1', value: { targetTemperature: 7, $metadata: {} } }]);
      assert.deepEqual(await changes.take(), { thermostat1: { __t: 'c', targetTemperature: 7 }, $version: 4 });
      await update(device, [{ op: 'replace', path: '/thermostat1/targetTemperature', value: 8 }]);
      assert.deepEqual(await changes.take(), { thermostat1: { __t: 'c', targetTemperature: 8 }, $version: 5 });
      await update(device, [{ op: 'remove', path: '/targetTemperature' }]);
      assert.deepEqual(await changes.take(), { targetTemperature: null, $version: 6 });
    });
  }

  test('is patched only under the etag it has', async () => {
    const device = await devices.create();
    const stale = (await twins.get(device)).etag;
    const first = await update(device, [{ op: 'add', path: '/a', value: 1 }], `"${stale}"`);
    await assert.rejects(update(device, [{ op: 'add', path: '/a', value: 2 }], `"${stale}"`), refusal(412, 'PreconditionFailed'));
    await update(device, [{ op: 'add', path: '/a', value: 3 }], first.headers.get('etag'));
    await update(device, [{ op: 'add', path: '/a', value: 4 }], '*');
    assert.equal((await twins.get(device)).properties.desired.a, 4);
  });

  for (const [what, { errorCode, patch }] of Object.entries({
    'an unknown operation': { errorCode: 'InvalidDigitalTwinJsonPatch', patch: [{ op: 'conjure', path: '/a', value: 1 }] },
    'an operation without a path': { errorCode: 'InvalidDigitalTwinPatchPath', patch: [{ op: 'add', value: 1 }] },
    'an operation without its value': { errorCode: 'InvalidDigitalTwinJsonPatch', patch: [{ op: 'add', path: '/a' }] },
    'a path that is none': { errorCode: 'InvalidDigitalTwinPatchPath', patch: [{ op: 'add', path: 'a', value: 1 }] },
  })) {
    test(`does not take ${what}`, async () => {
      const device = await devices.create();
      await assert.rejects(update(device, patch), refusal(400, errorCode));
      assert.equal((await twins.get(device)).properties.desired.$version, 1);
    });
  }

  test('takes a list of operations or nothing', async () => {
    const device = await devices.create();
    for (const body of ['{', '{"op":"add"}', '"add"', '[7]']) {
      const answer = await service.rest('PATCH', `/digitaltwins/${device.deviceId}`, { body });
      assert.equal(answer.status, 400, answer.text);
    }
    await assert.rejects(update(device, [{ op: 'add', path: '/fine', value: 1 }, { op: 'add', path: 'wrong', value: 1 }]), (err) => err.statusCode === 400);
    assert.equal((await twins.get(device)).properties.desired.fine, undefined);
  });

  test('of a device that does not exist is 404', async () => {
    const nobody = { deviceId: devices.freshId('nobody') };
    await assert.rejects(get(nobody), refusal(404, 'DeviceNotFound'));
    await assert.rejects(update(nobody, [{ op: 'add', path: '/a', value: 1 }]), refusal(404, 'DeviceNotFound'));
    await assert.rejects(client.invokeCommand(nobody.deviceId, 'reboot', {}), refusal(404, 'DeviceNotFound'));
  });
});

for (const door of DOORS) {
  describe(`a command over ${door.name}`, () => {
    test('reaches the device by its name, with its argument, and brings back status and answer', async (t) => {
      const device = await devices.create();
      await methods.answer(await devices.connect(t, door, device), 'reboot', ({ payload }) => ({ status: 201, payload: { delay: payload } }));
      const { body, xMsCommandStatuscode, xMsRequestId } = await client.invokeCommand(device.deviceId, 'reboot', 5);
      assert.deepEqual(body, { delay: 5 });
      assert.equal(xMsCommandStatuscode, 201);
      assert.ok(xMsRequestId);
    });

    test('of a component carries the component in its name', async (t) => {
      const device = await devices.create();
      await methods.answer(await devices.connect(t, door, device), 'thermostat1*getMaxMinReport', ({ payload }) => ({ payload: { since: payload } }));
      const { body, xMsCommandStatuscode } = await client.invokeComponentCommand(device.deviceId, 'thermostat1', 'getMaxMinReport', '2026-01-01');
      assert.deepEqual(body, { since: '2026-01-01' });
      assert.equal(xMsCommandStatuscode, 200);
    });

    test('waits for a device that connects late when told to', async (t) => {
      const device = await devices.create();
      const call = client.invokeCommand(device.deviceId, 'late', {}, { connectTimeoutInSeconds: 30, responseTimeoutInSeconds: 30 });
      await methods.answer(await devices.connect(t, door, device), 'late', () => ({ payload: 'finally' }));
      assert.equal((await call).body, 'finally');
    });
  });
}

describe('a command', () => {
  test('to a device that is away is 404103', async () => {
    const device = await devices.create();
    await assert.rejects(client.invokeCommand(device.deviceId, 'reboot', {}), refusal(404, 'DeviceNotOnline'));
    await assert.rejects(client.invokeComponentCommand(device.deviceId, 'c', 'reboot', {}), refusal(404, 'DeviceNotOnline'));
  });

  test('with a time-out that is none is refused', async () => {
    const device = await devices.create();
    await assert.rejects(client.invokeCommand(device.deviceId, 'reboot', {}, { responseTimeoutInSeconds: 1 }), refusal(400, 'ArgumentInvalid'));
  });
});
