'use strict';

// Device identities and device clients.

const crypto = require('node:crypto');
const { Client } = require('azure-iot-device');
const { NoRetry } = require('azure-iot-common');
const { byKey } = require('./credentials');
const service = require('./service');

const RUN = crypto.randomBytes(3).toString('hex');
let created = 0;

/** An id that no other test of this run uses. */
const freshId = (prefix = 'node') => `${prefix}-${RUN}-${++created}`;

/**
 * Creates an identity in the registry. `fields` are those of the registry's document; without any it gets symmetric
 * keys of the hub's making. Answers {host, deviceId, generationId, key, secondaryKey}.
 */
async function create(fields = {}) {
  const { responseBody: device } = await service.registry().create({ deviceId: freshId(), status: 'enabled', ...fields });
  const { primaryKey, secondaryKey } = device.authentication.symmetricKey;
  return { host: service.host, deviceId: device.deviceId, generationId: device.generationId, key: primaryKey, secondaryKey };
}

/**
 * A client made with the SDK's transport of `door`, closed when the test ends. It never retries, so that a refusal reaches the test
 * as the exception the SDK made of it. `client.transport` is the SDK's own transport object, for what only that one shows.
 */
function observed(t, door, make) {
  let transport;
  class Observed extends door.Transport {
    constructor(...args) {
      super(...args);
      transport = this;
    }
  }
  const made = make(Observed);
  made.setRetryPolicy(new NoRetry());
  made.transport = transport;
  t.after(() => made.close());
  return made;
}

/** A device client on `door`, closed when the test ends. */
function client(t, door, device, provider = byKey(device, device.key)) {
  return observed(t, door, (Transport) => Client.fromAuthenticationProvider(provider, Transport));
}

/** As client, and open. An HTTPS client polls only when told to (client.transport.receive()), once. */
async function connect(t, door, device, provider) {
  const made = client(t, door, device, provider);
  await made.open();
  if (door.protocol === 'http') await made.setTransportOptions({ manualPolling: true, drain: false });
  return made;
}

/** Breaks a client's connection with no goodbye of its protocol; a WebSocket of AMQP still says its own. */
function tear({ transport }, door) {
  if (door.protocol === 'mqtt') return transport._mqtt._mqttClient.stream.destroy();
  const { socket } = transport._amqp._rheaConnection;
  return socket.destroy ? socket.destroy(new Error('torn by the test')) : socket.end(); // without an error rhea would not notice
}

module.exports = { freshId, create, observed, client, connect, tear };
