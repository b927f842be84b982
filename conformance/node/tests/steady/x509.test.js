'use strict';

// Devices that prove themselves with a client certificate, on each door. The hub asks for one in every TLS handshake and
// holds it against the identity that the device claims.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { before, describe, test } = require('node:test');
const { Client } = require('azure-iot-device');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { createAuthority, createSelfSigned, createSigned, thumbprint } = require('../../support/certificates');
const { byCertificate, byKey } = require('../../support/credentials');
const { DOORS, speaking } = require('../../support/doors');
const { messagesOf } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;

const authority = JSON.parse(fs.readFileSync(process.env.IOLITE_DEVICE_CA, 'utf8'));

const file = fileScope();
let reader;

before(async () => {
  await service.load();
  reader = await Reader.open(file);
});

async function createSelfSignedDevice(primary, secondary = primary, algorithm = 'sha1') {
  return devices.create({
    authentication: {
      type: 'selfSigned',
      x509Thumbprint: { primaryThumbprint: thumbprint(primary.cert, algorithm), secondaryThumbprint: thumbprint(secondary.cert, algorithm) },
    },
  });
}

const createAuthorityDevice = () => devices.create({ authentication: { type: 'certificateAuthority' } });

async function enters(t, door, device, certificate) {
  const client = await devices.connect(t, door, device, byCertificate(device, certificate));
  await client.sendEvent(message('hello'));
  const event = await reader.of(device.deviceId).take();
  const method = JSON.parse(event.systemProperties['iothub-connection-auth-method']);
  assert.equal(method.scope, 'device');
  assert.match(method.type, /^x509/);
  return event;
}

/** An AMQP client with a certificate says who it is only when it attaches a link: there, not at open, the hub can refuse. */
async function isRefused(t, door, device, provider) {
  const client = devices.client(t, door, device, provider);
  await assert.rejects(async () => {
    await client.open();
    await client.sendEvent(message('must not arrive'));
  }, { name: 'UnauthorizedError' });
}

for (const door of DOORS) {
  describe(`certificates over ${door.name}`, () => {
    test('a self-signed one enters by its SHA-1 thumbprint, primary or secondary', async (t) => {
      const [primary, secondary] = [createSelfSigned('primary'), createSelfSigned('secondary')];
      const device = await createSelfSignedDevice(primary, secondary);
      await enters(t, door, device, primary);
      await enters(t, door, device, secondary);
    });

    test('a self-signed one enters by its SHA-256 thumbprint', async (t) => {
      const certificate = createSelfSigned('sha-256');
      const device = await createSelfSignedDevice(certificate, certificate, 'sha256');
      await enters(t, door, device, certificate);
    });

    test('another self-signed one, even of the same name, does not', async (t) => {
      const device = await createSelfSignedDevice(createSelfSigned('twin'));
      await isRefused(t, door, device, byCertificate(device, createSelfSigned('twin')));
    });

    test('a device with keys does not enter by a certificate, nor one with a certificate by a key', async (t) => {
      const certificate = createSelfSigned('mine');
      const keyed = await devices.create();
      await isRefused(t, door, keyed, byCertificate(keyed, certificate));
      const certified = await createSelfSignedDevice(certificate);
      await isRefused(t, door, certified, byKey(certified, keyed.key));
    });

    test('one signed by a registered authority enters as the device of its common name', async (t) => {
      const device = await createAuthorityDevice();
      await enters(t, door, device, createSigned(device.deviceId, authority));
    });

    test('one signed by a registered authority does not enter as another device', async (t) => {
      const [device, other] = [await createAuthorityDevice(), await createAuthorityDevice()];
      await isRefused(t, door, device, byCertificate(device, createSigned(other.deviceId, authority)));
    });

    test('one signed by an unknown authority of the same name does not enter', async (t) => {
      const device = await createAuthorityDevice();
      await isRefused(t, door, device, byCertificate(device, createSigned(device.deviceId, createAuthority(authority.subject))));
    });
  });
}

describe('a device with a certificate', () => {
  for (const door of speaking('mqtt', 'amqp')) {
    test(`receives its messages over ${door.name}`, async (t) => {
      const certificate = createSelfSigned('receiver');
      const device = await createSelfSignedDevice(certificate);
      const client = await devices.connect(t, door, device, byCertificate(device, certificate));
      const inbox = messagesOf(client);
      const backEnd = await service.connect(t);
      await backEnd.send(device.deviceId, message('hello'));
      const received = await inbox.take();
      assert.equal(received.getData().toString(), 'hello');
      await client.complete(received);
      await hub.until('the queue is empty', async () => (await service.queued(device.deviceId)) === 0);
    });
  }

  test('opens with the connection string that ends in x509=true', async (t) => {
    const { cert, key } = createSelfSigned('connection string');
    const device = await createSelfSignedDevice({ cert });
    const [door] = speaking('mqtt');
    const client = Client.fromConnectionString(`HostName=${device.host};DeviceId=${device.deviceId};x509=true`, door.Transport);
    t.after(() => client.close());
    await client.setOptions({ cert, key });
    await client.open();
    await client.sendEvent(message('hello'));
    assert.equal((await reader.of(device.deviceId).take()).body.toString(), 'hello');
  });
});
