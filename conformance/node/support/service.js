'use strict';

// Back-end clients: registry, cloud-to-device, feedback.

const { Registry, Client, Amqp, AmqpWs } = require('azure-iothub');
const { NoRetry, Message } = require('azure-iot-common');
const hub = require('./hub');
const { token } = require('./credentials');

const state = { host: null, policies: null, eventHubs: null };

/** Reads host, policy keys and Event Hubs connection strings from the hub; call once per file, before anything else. */
async function load() {
  const info = await hub.info();
  state.info = info;
  state.policies = {};
  for (const text of strings(info)) {
    const policy = /^HostName=([^;]+);SharedAccessKeyName=([^;]+);SharedAccessKey=([^;]+)/.exec(text);
    if (policy) {
      state.host = policy[1];
      state.policies[policy[2]] = { name: policy[2], key: policy[3], connectionString: text };
    }
    if (/^Endpoint=sb:/.test(text)) {
      if (/UseDevelopmentEmulator=true/.test(text)) state.eventHubsPlain = text;
      else state.eventHubs = text;
    }
  }
  if (!state.policies.iothubowner) throw new Error(`no iothubowner connection string in ${JSON.stringify(info)}`);
}

function strings(value) {
  if (typeof value === 'string') return [value];
  return value && typeof value === 'object' ? Object.values(value).flatMap(strings) : [];
}

/** A token of a policy over the whole hub; it outlives every move of the hub's clock. */
const policyToken = (name, options) => token(state.host, state.policies[name].key, { policy: name, ...options });

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
  const response = await fetch(`https://${state.host}/devices/${encodeURIComponent(deviceId)}/commands?api-version=2021-04-12`, {
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

/** The connection string that the hub printed for a device it was started with. */
function deviceConnectionString(deviceId) {
  const found = strings(state.info).find((text) => text.startsWith('HostName=') && text.includes(`;DeviceId=${deviceId};`));
  if (!found) throw new Error(`no connection string of ${deviceId} in ${JSON.stringify(state.info)}`);
  return found;
}

module.exports = {
  TRANSPORTS, deviceConnectionString, load, policyToken, registry, connect, message, purge, queued,
  get host() { return state.host; },
  get policies() { return state.policies; },
  get eventHubs() { return state.eventHubs; },
  get eventHubsPlain() { return state.eventHubsPlain; },
  get info() { return state.info; },
};
