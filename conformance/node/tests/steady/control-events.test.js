'use strict';

// GET /iolite/v1/events: what a device sent, asserted with one HTTP call and no Event Hubs client.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const modules = require('../../support/modules');
const routing = require('../../support/routing');
const service = require('../../support/service');
const { DOORS, speaking } = require('../../support/doors');
const { Talker, index, upTo } = require('../../support/events');
const { message } = service;

const [MQTT] = speaking('mqtt');
const [AMQP] = speaking('amqp');
const [HTTPS] = speaking('http');

before(() => service.load());

const find = (query) => hub.control('GET', `/iolite/v1/events?${new URLSearchParams(query)}`);

/** The numbers of a talker's events, in an answer. */
const indexes = ({ events }) => events.map((event) => event.json.index);

for (const door of DOORS) {
  test(`what a device sends over ${door.name} is there with all its properties`, async (t) => {
    const device = await devices.create();
    const client = await devices.connect(t, door, device);
    const waiting = find({ deviceId: device.deviceId, 'property.room': 'kitchen', 'body.engine.temperatures[1]': '21.5', timeout: '10s' });
    const properties = { room: 'kitchen' };
    const fields = { contentType: 'application/json', contentEncoding: 'utf-8', messageId: 'm-1' };
    await client.sendEvent(message('{"engine":{"temperatures":[20,20]}}', { properties, ...fields }));
    await client.sendEvent(message('{"engine":{"temperatures":[20,21.5]}}', { properties, ...fields }));
    const { events: [event, ...others] } = await waiting;
    assert.deepEqual(others, []);
    assert.equal(event.deviceId, device.deviceId);
    assert.equal(event.source, 'Telemetry');
    assert.deepEqual(event.json, { engine: { temperatures: [20, 21.5] } });
    assert.equal(event.body, '{"engine":{"temperatures":[20,21.5]}}');
    assert.equal(event.properties.room, 'kitchen');
    assert.equal(event.systemProperties['message-id'], 'm-1');
    assert.ok(new Date(event.enqueuedTime) <= await hub.now());
  });
}

describe('a search', () => {
  test('names the place that an Event Hubs client reads from', async (t) => {
    const talker = await Talker.open(t);
    const { events: [found] } = await find({ deviceId: talker.device.deviceId });
    const [sent] = talker.sent;
    assert.equal(String(found.partition), sent.partitionId);
    assert.equal(found.sequenceNumber, sent.sequenceNumber);
    assert.equal(String(found.offset), sent.offset);
    assert.equal(new Date(found.enqueuedTime).getTime(), sent.enqueuedTimeUtc.getTime());
  });

  test('goes on from its cursor, and can be bounded in number and time', async (t) => {
    const talker = await Talker.open(t);
    await talker.say(2);
    await talker.pause();
    const middle = (await hub.now()).toISOString();
    await talker.say(3);
    const { deviceId } = talker.device;
    const first = await find({ deviceId, limit: 4 });
    assert.deepEqual(indexes(first), upTo(4));
    assert.deepEqual(indexes(await find({ deviceId, cursor: first.cursor })), [4, 5]);
    assert.deepEqual(indexes(await find({ deviceId, until: middle })), upTo(3));
    assert.deepEqual(indexes(await find({ deviceId, since: middle })), [3, 4, 5]);
    assert.deepEqual(indexes(await find({ deviceId, cursor: 'end' })), []);
  });

  test('waits for as many as it wants', async (t) => {
    const talker = await Talker.open(t);
    const waiting = find({ deviceId: talker.device.deviceId, count: 3, timeout: '10s' });
    await talker.say(1);
    await talker.say(1);
    assert.deepEqual(indexes(await waiting), upTo(3));
  });

  test('that waits in vain is a 404, and says for what', async () => {
    const response = await hub.request('GET', '/iolite/v1/events?deviceId=nobody&timeout=10ms');
    assert.equal(response.status, 404);
    assert.ok(await response.text());
  });

  test('finds bytes that are no text', async (t) => {
    const device = await devices.create();
    const client = await devices.connect(t, AMQP, device);
    const bytes = Buffer.from([0, 0xff, 0xfe, 1]);
    await client.sendEvent(message(bytes));
    const { events: [event] } = await find({ deviceId: device.deviceId, timeout: '10s' });
    assert.deepEqual(Buffer.from(event.bodyBase64, 'base64'), bytes);
    assert.equal(event.body, undefined);
  });

  test('takes a condition of the routing language', async (t) => {
    const device = await devices.create();
    const client = await devices.connect(t, MQTT, device);
    for (const n of [1, 5, 9]) {
      await client.sendEvent(message(JSON.stringify({ n }), { contentType: 'application/json', contentEncoding: 'utf-8', properties: { door: n > 4 ? 'front' : 'back' } }));
    }
    const found = await find({ deviceId: device.deviceId, condition: "$body.n > 4 AND door = 'front'", count: 2, timeout: '10s' });
    assert.deepEqual(found.events.map(({ json }) => json.n), [5, 9]);
  });

  test('looks into other event hubs', async (t) => {
    await routing.put(t, { endpoints: { eventHubs: [routing.inProcess('alarms')] }, routes: [routing.route('alarms', "alarm = 'yes'")] });
    const device = await devices.create();
    const { deviceId } = device;
    const client = await devices.connect(t, AMQP, device);
    await client.sendEvent(message('fire', { properties: { alarm: 'yes' } }));
    assert.equal((await find({ eventHub: 'alarms', deviceId, timeout: '10s' })).events[0].body, 'fire');
    assert.deepEqual((await find({ deviceId })).events, []);
    assert.equal((await hub.request('GET', '/iolite/v1/events?eventHub=nowhere')).status, 404);
  });

  test('tells the events of a module from those of its device', async (t) => {
    const module = await modules.create();
    const { deviceId, moduleId } = module;
    const client = await modules.connect(t, MQTT, module);
    await client.sendEvent(message('{"from":"module"}'));
    const { events: [event] } = await find({ deviceId, moduleId, timeout: '10s' });
    assert.equal(event.moduleId, moduleId);
    assert.deepEqual((await find({ deviceId, moduleId: 'another' })).events, []);
  });

  const wrong = {
    'a limit that is no number': { limit: 'many' }, 'a limit of nothing': { limit: 0 }, 'a limit beyond the limit': { limit: 1001 },
    'a timeout without unit': { timeout: '5' }, 'a timeout beyond ten minutes': { timeout: '11m' }, 'a time that is none': { since: 'yesterday' },
    'a cursor that nobody gave': { cursor: 'somewhere' }, 'a parameter that nobody knows': { colour: 'red' }, 'a path that is none': { 'body.a[': '1' }, 'a condition that is none': { condition: 'a = = b' },
  };
  for (const [what, query] of Object.entries(wrong)) {
    test(`for ${what} is refused`, async () => {
      const response = await hub.request('GET', `/iolite/v1/events?${new URLSearchParams(query)}`);
      assert.equal(response.status, 400, await response.text());
    });
  }
});

describe('who follows', () => {
  test('is told each event as it comes, a line of JSON each, and only those that match', async (t) => {
    const device = await devices.create();
    const client = await devices.connect(t, HTTPS, device);
    const gone = new AbortController();
    t.after(() => gone.abort());
    const query = new URLSearchParams({ follow: 'true', cursor: 'end', deviceId: device.deviceId, 'property.kind': 'alarm' });
    const response = await hub.request('GET', `/iolite/v1/events?${query}`, { signal: gone.signal });
    assert.match(response.headers.get('content-type'), /^application\/x-ndjson/);
    const lines = linesOf(response.body);
    for (const kind of ['alarm', 'measurement', 'alarm']) await client.sendEvent(message(JSON.stringify({ kind }), { properties: { kind } }));
    for (let i = 0; i < 2; i++) assert.deepEqual(JSON.parse((await lines.next()).value).json, { kind: 'alarm' });
  });
});

async function* linesOf(stream) {
  let rest = '';
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    yield* lines;
  }
}
