'use strict';

// Back-end clients: registry, jobs, digital twins, direct methods, cloud-to-device, feedback; and requests made by hand.

const { Registry, Client, JobClient, DigitalTwinClient, IoTHubTokenCredentials, Amqp, AmqpWs } = require('azure-iothub');
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

/** make(policy), once for each policy: these clients keep their connections. */
function once(make, defaultPolicy) {
  const made = new Map();
  return (policy = defaultPolicy) => {
    if (!made.has(policy)) made.set(policy, make(policy));
    return made.get(policy);
  };
}

const registry = once((policy) => Registry.fromSharedAccessSignature(policyToken(policy)), 'iothubowner');

const jobs = once((policy) => JobClient.fromSharedAccessSignature(policyToken(policy)), 'iothubowner');

/** A digital twin client. It takes a connection string only, and its tokens last an hour: not for tests that move the clock. */
const digitalTwins = () => new DigitalTwinClient(new IoTHubTokenCredentials(info.connectionString));

/** A service client for direct methods, which need no connection. */
const methods = once((policy) => Client.fromSharedAccessSignature(policyToken(policy)), 'service');

/**
 * A request to the service API by hand, for what no SDK sends. A `body` that is no string becomes JSON. Answers {status, headers, text,
 * body}, the last one parsed if it is JSON.
 */
async function rest(method, path, { policy = 'iothubowner', body, headers = {} } = {}) {
  const response = await fetch(`https://${info.hostname}${path}${path.includes('?') ? '&' : '?'}api-version=2021-04-12`, {
    method,
    headers: { authorization: policyToken(policy), ...(body === undefined ? {} : { 'content-type': 'application/json; charset=utf-8' }), ...headers },
    body: body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const isJson = text && response.headers.get('content-type')?.includes('json');
  return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined };
}

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
  const answer = await rest('DELETE', `/devices/${encodeURIComponent(deviceId)}/commands`, { policy: 'service' });
  if (answer.status !== 200) throw new Error(`purge answered ${answer.status}: ${answer.text}`);
  return answer.body;
}

/** How many messages wait for the device, locked ones included. */
async function queued(deviceId) {
  const { responseBody } = await registry().get(deviceId);
  return Number(responseBody.cloudToDeviceMessageCount);
}

/** The connection string of a device that the hub was started with. */
const deviceConnectionString = (deviceId) => info.devices.find((device) => device.deviceId === deviceId).connectionString;

/**
 * The connection string of an event hub with a SAS in it instead of a key: of the one that the SDK would make, nothing is left when the clock
 * has moved by an hour. Options are those of policyToken.
 */
function eventHubsByToken(eventHub = /EntityPath=([^;]+)/.exec(info.eventHubsConnectionString)[1], options) {
  return `Endpoint=sb://${info.hostname}/;SharedAccessSignature=${policyToken('service', options)};EntityPath=${eventHub}`;
}

module.exports = {
  eventHubsByToken, TRANSPORTS, load, policyToken, deviceConnectionString, registry, jobs, digitalTwins, methods, rest, connect, message, purge, queued,
  get host() { return info.hostname; },
  get policies() { return policies; },
  get connectionString() { return info.connectionString; },
  get eventHubs() { return info.eventHubsConnectionString; },
  get storage() { return info.storageConnectionString; },
  get eventHubsPlain() { return info.emulatorConnectionString; },
};
