'use strict';

// Back-end clients: registry, cloud-to-device, feedback.

const { Registry, Client, Amqp, AmqpWs } = require('azure-iothub');
const { NoRetry, Message } = require('azure-iot-common');
const hub = require('./hub');
const { token } = require('./credentials');

let info; // what the hub says of itself
let policies; // by name

/** Asks the hub for its name, its policies' keys and its connection strings; call once per file, before anything else. */
async function load() {
  info = await hub.info();
  policies = Object.fromEntries(info.policies.map((policy) => [policy.name, policy]));
}

/** A token of a policy over the whole hub; it outlives every move of the hub's clock. */
const policyToken = (name, options) => token(info.hostname, policies[name].primaryKey, { policy: name, ...options });

const registry = (policy = 'iothubowner') => Registry.fromSharedAccessSignature(policyToken(policy));

const TRANSPORTS = [
  { name: 'AMQP', Transport: Amqp },
  { name: 'AMQP over WebSocket', Transport: AmqpWs },
];

/** An open service client that never retries, closed when the test (or the file, given its `after`) ends. */
async function connect(t, { policy = 'service', Transport = Amqp } = {}) {
  const client = Client.fromSharedAccessSignature(policyToken(policy), Transport);
  client.setRetryPolicy(new NoRetry());
  t.after(() => client.close());
  await client.open();
  return client;
}

/** A cloud-to-device message; `fields` are members of the SDK's Message, `properties` its application properties. */
function message(body, { properties = {}, ...fields } = {}) {
  const made = Object.assign(new Message(body), fields);
  for (const [key, value] of Object.entries(properties)) made.properties.add(key, value);
  return made;
}

/** Empties a device's queue. The Node SDK has no call for it; this is the documented request behind the others'. */
async function purge(deviceId) {
  const response = await fetch(`https://${info.hostname}/devices/${encodeURIComponent(deviceId)}/commands?api-version=2021-04-12`, {
    method: 'DELETE',
    headers: { authorization: policyToken('service') },
  });
  if (response.status !== 200) throw new Error(`purge answered ${response.status}: ${await response.text()}`);
  return response.json();
}

/** How many messages wait for the device, locked ones included. */
async function queued(deviceId) {
  const { responseBody } = await registry().get(deviceId);
  return Number(responseBody.cloudToDeviceMessageCount);
}

/** The connection string of a device that the hub was started with. */
const deviceConnectionString = (deviceId) => info.devices.find((device) => device.deviceId === deviceId).connectionString;

module.exports = {
  TRANSPORTS, load, policyToken, deviceConnectionString, registry, connect, message, purge, queued,
  get host() { return info.hostname; },
  get policies() { return policies; },
  get connectionString() { return info.connectionString; },
  get eventHubs() { return info.eventHubsConnectionString; },
  get eventHubsPlain() { return info.emulatorConnectionString; },
};
