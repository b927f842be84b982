'use strict';

// Endpoints outside of the hub: an event hub elsewhere, for which the hub of the suite stands, and a blob container in Azurite. The hub whose
// devices speak is a second one.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const eventHubs = require('../../support/event-hubs');
const hub = require('../../support/hub');
const routing = require('../../support/routing');
const service = require('../../support/service');
const { Blobs } = require('../../support/blobs');
const { speaking } = require('../../support/doors');
const { fileScope } = require('../../support/scope');
const { SecondHub } = require('../../support/second-hub');
const { message } = service;
const { route } = routing;

const [MQTT] = speaking('mqtt');
const ELSEWHERE = 'elsewhere';
const PATH = '/iolite/v1/routing';
const NAMES = '{iothub}/{partition}/{YYYY}-{MM}-{DD}/{HH}-{mm}.json';

const file = fileScope();
let second;

before(async () => {
  await service.load();
  second = await SecondHub.start(file);
});

/** Puts a routing in force at the second hub. */
const put = ({ endpoints, routes, ...others }) => second.control('PUT', PATH, {
  endpoints: { eventHubs: [], serviceBusQueues: [], serviceBusTopics: [], storageContainers: [], ...endpoints }, routes, enrichments: [], ...others,
});

async function sender(t) {
  const device = await second.createDevice();
  return { device, client: await devices.connect(t, MQTT, device) };
}

/** What the hub says of its endpoint. */
const healthOf = async (name) => (await second.control('GET', `${PATH}/health`)).value.find(({ endpointId }) => endpointId === name);

const sendAll = (client, bodies, fields = {}) => Promise.all(bodies.map((body) => client.sendEvent(message(body, fields))));
const numbered = (from, to) => Array.from({ length: to - from }, (_, i) => String(from + i));
const textsOf = (events) => events.map(({ body }) => body.toString());

describe('an event hub elsewhere', () => {
  const strings = {
    'over TLS': () => eventHubs.connectionString(ELSEWHERE),
    'without TLS': () => service.eventHubsPlain.replace(/EntityPath=[^;]+/, `EntityPath=${ELSEWHERE}`),
    'by a SAS': () => service.eventHubsByToken(ELSEWHERE),
  };
  for (const [what, connectionString] of Object.entries(strings)) {
    test(`gets ${what} what devices say, in order, as they said it`, async (t) => {
      await eventHubs.put(t, ELSEWHERE, { partitions: 2 });
      const reader = await routing.readerOf(t, ELSEWHERE);
      await put({ endpoints: { eventHubs: [{ name: 'far', connectionString: connectionString() }] }, routes: [route('far')] });
      const { device, client } = await sender(t);
      const bodies = numbered(0, 50);
      await sendAll(client, bodies, { contentType: 'text/plain', contentEncoding: 'utf-8', messageId: 'm-1', properties: { room: 'kitchen' } });
      const events = await reader.of(device.deviceId).takeMany(bodies.length);
      assert.deepEqual(textsOf(events), bodies);
      const [event] = events;
      assert.equal(event.messageId, 'm-1');
      assert.equal(event.contentType, 'text/plain');
      assert.equal(event.properties.room, 'kitchen');
      assert.equal(event.systemProperties['iothub-message-source'], 'Telemetry');
      await hub.until('it is healthy and nothing waits', async () => {
        const { healthStatus, waitingMessages } = await healthOf('far');
        return healthStatus === 'healthy' && waitingMessages === 0;
      });
    });
  }

  test('that is away holds up no device, and gets everything when it is back', async (t) => {
    await eventHubs.put(t, ELSEWHERE, { partitions: 1 });
    await put({ endpoints: { eventHubs: [{ name: 'far', connectionString: eventHubs.connectionString(ELSEWHERE) }] }, routes: [route('far')] });
    const { device, client } = await sender(t);
    await sendAll(client, ['before']);
    await hub.until('the first was delivered', async () => (await healthOf('far')).waitingMessages === 0);
    await eventHubs.remove(ELSEWHERE);
    const bodies = numbered(0, 20);
    await sendAll(client, bodies); // each was acknowledged
    await hub.until('the hub has noticed', async () => (await healthOf('far')).lastKnownError === 'NotFound');
    assert.equal((await healthOf('far')).waitingMessages, bodies.length);
    await eventHubs.put(t, ELSEWHERE, { partitions: 1 });
    const reader = await routing.readerOf(t, ELSEWHERE);
    await hub.until('all were delivered', async () => {
      await second.control('POST', '/iolite/v1/clock', { advance: '30s' }); // it tries again by its clock
      return (await healthOf('far')).waitingMessages === 0;
    }, 15_000);
    assert.deepEqual(textsOf(await reader.of(device.deviceId).takeMany(bodies.length)), bodies);
  });
});

describe('an endpoint that is away for more than an hour', () => {
  test('is dead: what waited for it is dropped, and what comes later is tried', async (t) => {
    await put({ endpoints: { eventHubs: [{ name: 'lost', connectionString: eventHubs.connectionString(ELSEWHERE) }] }, routes: [route('lost')] });
    const { device, client } = await sender(t);
    await sendAll(client, ['too old']);
    await hub.until('the hub has tried', async () => (await healthOf('lost')).healthStatus === 'unhealthy');
    await hub.until('it is dead', async () => {
      await second.control('POST', '/iolite/v1/clock', { advance: '31m' });
      const { healthStatus, waitingMessages } = await healthOf('lost');
      return healthStatus === 'dead' && waitingMessages === 0;
    });
    await eventHubs.put(t, ELSEWHERE, { partitions: 1 });
    const reader = await routing.readerOf(t, ELSEWHERE);
    await sendAll(client, ['young']);
    await hub.until('it is well again', async () => {
      await second.control('POST', '/iolite/v1/clock', { advance: '30s' });
      return (await healthOf('lost')).healthStatus === 'healthy';
    });
    assert.deepEqual(textsOf(await reader.of(device.deviceId).takeMany(1)), ['young']);
    assert.equal(reader.of(device.deviceId).left, 0);
  });
});

describe('a blob container', () => {
  let blobs;

  before(async () => { blobs = await Blobs.open(file, { https: true }); });

  /** The lines of all blobs of the container, by the name of the blob. */
  async function lines(container) {
    const found = {};
    for await (const { name } of container.listBlobsFlat()) {
      const text = (await container.getBlobClient(name).downloadToBuffer()).toString();
      found[name] = text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    }
    return found;
  }

  test('gets messages in blobs of lines, after the time that was set', async (t) => {
    const container = blobs.containerClient('cold');
    await container.create();
    await put({
      endpoints: {
        storageContainers: [{ name: 'cold', connectionString: blobs.connectionString, containerName: 'cold', fileNameFormat: NAMES, batchFrequencyInSeconds: 60, encoding: 'JSON' }],
      },
      routes: [route('cold')],
    });
    const { device, client } = await sender(t);
    const json = { contentType: 'application/json', contentEncoding: 'utf-8' };
    await client.sendEvent(message('{"t":21.5}', { ...json, messageId: 'm-1', properties: { room: 'kitchen' } }));
    await client.sendEvent(message('no JSON'));
    await second.control('POST', '/iolite/v1/clock', { advance: '61s' });
    const [[name, [first, other]]] = await hub.until('there is a blob', async () => {
      const found = Object.entries(await lines(container));
      return found.length > 0 && found;
    });
    assert.match(name, /^iolite\/[0-3]\/\d{4}-\d\d-\d\d\/\d\d-\d\d\.json$/);
    assert.deepEqual(first.Body, { t: 21.5 });
    assert.deepEqual(first.Properties, { room: 'kitchen' });
    assert.equal(first.SystemProperties.connectionDeviceId, device.deviceId);
    assert.equal(first.SystemProperties.messageId, 'm-1');
    assert.equal(first.SystemProperties.contentType, 'application/json');
    assert.match(first.EnqueuedTimeUtc, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
    assert.equal(Buffer.from(other.Body, 'base64').toString(), 'no JSON');
  });
});
