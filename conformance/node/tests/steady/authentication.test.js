'use strict';

// Who may come in, and which exception the SDK makes of a refusal on each door.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { before, describe, test } = require('node:test');
const { SharedAccessSignatureAuthenticationProvider } = require('azure-iot-device');
const devices = require('../../support/devices');
const service = require('../../support/service');
const { byKey, byToken, token } = require('../../support/credentials');
const { DOORS, speaking } = require('../../support/doors');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;

const file = fileScope();
let reader;

before(async () => {
  await service.load();
  reader = await Reader.open(file);
});

const resourceOf = ({ host, deviceId }) => `${host}/devices/${deviceId}`;

/** Goes in with the provider and sends; answers the event that arrived. */
async function enters(t, door, device, provider) {
  const client = await devices.connect(t, door, device, provider);
  await client.sendEvent(message('hello'));
  return reader.of(device.deviceId).take();
}

/**
 * Asserts that the hub refuses the provider with UnauthorizedError: an MQTT client learns it from CONNACK, an AMQP client from the
 * answer to put-token or, if the token is good for another identity, when it attaches its link, an HTTPS client from the response to a request.
 */
async function isRefused(t, door, device, provider) {
  const client = devices.client(t, door, device, provider);
  await assert.rejects(async () => {
    await client.open();
    await client.sendEvent(message('must not arrive'));
  }, (err) => {
    assert.equal(err.name, 'UnauthorizedError', err.stack);
    // The MQTT transport calls every failure of a first connect unauthorized; only CONNACK 5 has these words.
    if (door.protocol === 'mqtt') assert.match(err.message, /Connection refused: Not authorized/);
    if (door.protocol === 'http') assert.equal(err.response.statusCode, 401);
    return true;
  });
}

for (const door of DOORS) {
  describe(`authentication over ${door.name}`, () => {
    test('the primary and the secondary key both open it', async (t) => {
      const device = await devices.create();
      await enters(t, door, device, byKey(device, device.key));
      await enters(t, door, device, byKey(device, device.secondaryKey));
    });

    test('keys that the registrar chose open it', async (t) => {
      const [primaryKey, secondaryKey] = [crypto.randomBytes(32).toString('base64'), crypto.randomBytes(48).toString('base64')];
      const device = await devices.create({ authentication: { symmetricKey: { primaryKey, secondaryKey } } });
      assert.equal(device.key, primaryKey);
      await enters(t, door, device, byKey(device, secondaryKey));
    });

    test('an id with every harmless sign of the grammar opens it', async (t) => {
      const device = await devices.create({ deviceId: `${devices.freshId()}-a.b:c_d*e!f(g),h=i@j;k$l'm` });
      const event = await enters(t, door, device);
      assert.equal(event.systemProperties['iothub-connection-device-id'], device.deviceId);
    });

    test('a policy with DeviceConnect opens it for any device, and the event says so', async (t) => {
      const device = await devices.create();
      const event = await enters(t, door, device, byToken(device, service.policyToken('device')));
      assert.equal(JSON.parse(event.systemProperties['iothub-connection-auth-method']).scope, 'hub');
    });

    test('a policy without DeviceConnect does not', async (t) => {
      const device = await devices.create();
      await isRefused(t, door, device, byToken(device, service.policyToken('service')));
    });

    test('a wrong key does not', async (t) => {
      const device = await devices.create();
      await isRefused(t, door, device, byKey(device, crypto.randomBytes(32).toString('base64')));
    });

    test('an expired token does not', async (t) => {
      const device = await devices.create();
      await isRefused(t, door, device, byToken(device, token(resourceOf(device), device.key, { lifetime: -3600 })));
    });

    test('a token of another device does not', async (t) => {
      const [device, other] = [await devices.create(), await devices.create()];
      await isRefused(t, door, device, byToken(device, token(resourceOf(other), other.key)));
    });

    test('a token of a device whose id merely begins like this one does not', async (t) => {
      const short = await devices.create();
      const long = await devices.create({ deviceId: `${short.deviceId}0` });
      await isRefused(t, door, long, byToken(long, token(resourceOf(short), short.key)));
    });

    test('a token over the device that another key signed does not', async (t) => {
      const [device, other] = [await devices.create(), await devices.create()];
      await isRefused(t, door, device, byToken(device, token(resourceOf(device), other.key)));
    });

    test('an unknown device does not', async (t) => {
      const device = { host: service.host, deviceId: devices.freshId('unknown') };
      await isRefused(t, door, device, byKey(device, crypto.randomBytes(32).toString('base64')));
    });

    test('a disabled device does not, until it is enabled again', async (t) => {
      const device = await devices.create({ status: 'disabled' });
      await isRefused(t, door, device, byKey(device, device.key));
      const { responseBody } = await service.registry().get(device.deviceId);
      await service.registry().update({ ...responseBody, status: 'enabled' });
      await enters(t, door, device, byKey(device, device.key));
    });

    test('a key that was replaced does not, the new one does', async (t) => {
      const device = await devices.create();
      const { responseBody } = await service.registry().get(device.deviceId);
      const [primaryKey, secondaryKey] = [crypto.randomBytes(32).toString('base64'), crypto.randomBytes(32).toString('base64')];
      await service.registry().update({ ...responseBody, authentication: { type: 'sas', symmetricKey: { primaryKey, secondaryKey } } });
      await isRefused(t, door, device, byKey(device, device.key));
      await enters(t, door, device, byKey(device, primaryKey));
    });
  });
}

describe('a refusal', () => {
  for (const door of speaking('mqtt', 'amqp')) {
    test(`over ${door.name} does not disturb the device that is connected rightly`, async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      let lost = false;
      client.on('disconnect', () => { lost = true; });
      await client.sendEvent(message('before'));
      await isRefused(t, door, device, byKey(device, crypto.randomBytes(32).toString('base64')));
      await client.sendEvent(message('after'));
      assert.equal(lost, false);
      assert.deepEqual((await reader.of(device.deviceId).takeMany(2)).map((e) => e.body.toString()), ['before', 'after']);
    });
  }
});

describe('a renewed token', () => {
  for (const door of DOORS) {
    test(`keeps a device on ${door.name} going`, async (t) => {
      const device = await devices.create();
      const provider = SharedAccessSignatureAuthenticationProvider.fromSharedAccessSignature(token(resourceOf(device), device.key));
      const client = await devices.connect(t, door, device, provider);
      await client.sendEvent(message('before'));
      await client.updateSharedAccessSignature(token(resourceOf(device), device.secondaryKey));
      await client.sendEvent(message('after'));
      assert.deepEqual((await reader.of(device.deviceId).takeMany(2)).map((e) => e.body.toString()), ['before', 'after']);
    });
  }
});
