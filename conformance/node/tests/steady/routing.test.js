'use strict';

// Routes: which messages go to which endpoint, and what is added on the way. Conditions are in the language of the article "IoT Hub message
// routing query syntax".

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const eventHubs = require('../../support/event-hubs');
const modules = require('../../support/modules');
const routing = require('../../support/routing');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { DOORS, speaking } = require('../../support/doors');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;
const { route, inProcess } = routing;

const [HTTPS] = speaking('http');
const JSON_TEXT = { contentType: 'application/json', contentEncoding: 'utf-8' };
const BUILT_IN = 'events';

const file = fileScope();
let builtIn; // what comes to the built-in endpoint

before(async () => {
  await service.load();
  builtIn = await Reader.open(file);
});

/** A device and its client on a door. */
async function sender(t, door = HTTPS) {
  const device = await devices.create();
  return { device, client: await devices.connect(t, door, device) };
}

const textOf = (event) => event.body.toString();

/** The inbox gets exactly these bodies; the last of them proves that none of the others come. */
async function gets(inbox, ...bodies) {
  assert.deepEqual((await inbox.takeMany(bodies.length)).map(textOf), bodies);
  assert.equal(inbox.left, 0);
}

describe('a hub without routing of its own', () => {
  test('sends all that devices say to the built-in endpoint, by the fallback route', async () => {
    const { endpoints, routes, fallbackRoute, enrichments } = await routing.get();
    assert.deepEqual(endpoints.eventHubs.map(({ name }) => name), ['seeded']);
    assert.deepEqual(routes.map(({ name }) => name), ['seeded']);
    assert.deepEqual(enrichments, []);
    assert.equal(fallbackRoute.source, 'DeviceMessages');
    assert.equal(fallbackRoute.condition, 'true');
    assert.deepEqual(fallbackRoute.endpointNames, [BUILT_IN]);
    assert.equal(fallbackRoute.isEnabled, true);
  });

  test('has the routes of its seed file', async (t) => {
    const seeded = await routing.readerOf(t, 'seeded');
    const { device, client } = await sender(t);
    await client.sendEvent(message('elsewhere', { properties: { seeded: 'yes' } }));
    await client.sendEvent(message('here', { properties: { seeded: 'no' } }));
    await gets(seeded.of(device.deviceId), 'elsewhere');
    await gets(builtIn.of(device.deviceId), 'here');
  });
});

for (const door of DOORS) {
  describe(`a route for messages over ${door.name}`, () => {
    test('looks at the properties and the body, and leaves the others to the fallback route', async (t) => {
      await routing.put(t, {
        endpoints: { eventHubs: [inProcess('alarms')] },
        routes: [route('alarms', "severity = 'high' AND $body.engine.temperature > 90")],
      });
      const alarms = await routing.readerOf(t, 'alarms');
      const { device, client } = await sender(t, door);
      const hot = JSON.stringify({ engine: { temperature: 91 } });
      const cold = JSON.stringify({ engine: { temperature: 20 } });
      const properties = { severity: 'high' };
      await client.sendEvent(message(hot, { ...JSON_TEXT, properties }));
      await client.sendEvent(message(cold, { ...JSON_TEXT, properties }));
      await client.sendEvent(message(hot, JSON_TEXT));
      await client.sendEvent(message(hot, { properties })); // does not say that it is JSON
      await client.sendEvent(message(hot, { ...JSON_TEXT, contentEncoding: undefined, properties }));
      await client.sendEvent(message('last', { properties }));
      await gets(builtIn.of(device.deviceId), cold, hot, hot, hot, 'last');
      const [event] = await alarms.of(device.deviceId).takeMany(1);
      assert.equal(textOf(event), hot);
      assert.equal(alarms.of(device.deviceId).left, 0);
      assert.equal(event.properties.severity, 'high');
      assert.equal(event.systemProperties['iothub-connection-device-id'], device.deviceId);
      assert.equal(event.systemProperties['iothub-message-source'], 'Telemetry');
    });
  });
}

describe('the condition of a route', () => {
  const conditions = [
    "$connectionDeviceId = '{id}'",
    "$contentType = 'application/json' AND $contentEncoding = 'utf-8'",
    "$messageId = 'm-1'",
    "STARTS_WITH($connectionDeviceId, 'node-')",
    "$twin.tags.place = 'roof'",
    '$twin.properties.desired.interval = 5',
    "NOT $twin.tags.place = 'cellar' AND IS_DEFINED($twin.tags.place)",
    '$body.a[1].b = true',
    "level = '3' OR level = '4'",
    'as_number(level) > 2',
  ];
  for (const condition of conditions) {
    test(condition, async (t) => {
      const { device, client } = await sender(t);
      await twins.patch(device, { tags: { place: 'roof' }, properties: { desired: { interval: 5 } } });
      await routing.put(t, {
        endpoints: { eventHubs: [inProcess('chosen')] },
        routes: [route('chosen', condition.replace('{id}', device.deviceId))],
      });
      const chosen = await routing.readerOf(t, 'chosen');
      const body = JSON.stringify({ a: [1, { b: true }] });
      await client.sendEvent(message(body, { ...JSON_TEXT, messageId: 'm-1', properties: { level: '3' } }));
      await gets(chosen.of(device.deviceId), body);
      const bystander = await sender(t);
      await bystander.client.sendEvent(message('unmatched'));
      if (condition.startsWith('STARTS_WITH')) await gets(chosen.of(bystander.device.deviceId), 'unmatched');
      else await gets(builtIn.of(bystander.device.deviceId), 'unmatched');
    });
  }

  const broken = ['temperature >', "severity = 'high", 'severity = 5 5', '$body.a = = 1', "IN(severity, 'a')", '(true', 'UNKNOWN_FUNCTION(a)', '$twin.'];
  for (const condition of broken) {
    test(`${condition} is refused, and the refusal names route and place`, async () => {
      const before = await routing.get();
      const answer = await routing.refused({ endpoints: { eventHubs: [inProcess('chosen')] }, routes: [{ ...route('chosen', condition), name: 'the-broken-one' }] });
      assert.equal(answer.status, 400, answer.text);
      assert.match(answer.text, /the-broken-one/);
      assert.match(answer.text, /line 1, column \d+/);
      assert.deepEqual(await routing.get(), before);
    });
  }
});

describe('several routes', () => {
  test('each take what they match, and an endpoint gets a message once', async (t) => {
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('first'), inProcess('second')] },
      routes: [
        route('first', "a = '1'"), { ...route('first', "b = '1'"), name: 'again' }, route('second', "b = '1'"),
        route(BUILT_IN, "c = '1'"), { ...route('first', 'true'), name: 'off', isEnabled: false },
      ],
    });
    const [first, second] = [await routing.readerOf(t, 'first'), await routing.readerOf(t, 'second')];
    const { device: { deviceId }, client } = await sender(t);
    await client.sendEvent(message('a', { properties: { a: '1' } }));
    await client.sendEvent(message('ab', { properties: { a: '1', b: '1' } }));
    await client.sendEvent(message('bc', { properties: { b: '1', c: '1' } }));
    await client.sendEvent(message('none'));
    await gets(first.of(deviceId), 'a', 'ab', 'bc');
    await gets(second.of(deviceId), 'ab', 'bc');
    await gets(builtIn.of(deviceId), 'bc', 'none');
  });

  test('without a fallback route drop what none of them takes', async (t) => {
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('first')] },
      routes: [route('first', "a = '1'"), route(BUILT_IN, "b = '1'")],
      fallbackRoute: { isEnabled: false },
    });
    const first = await routing.readerOf(t, 'first');
    const { device: { deviceId }, client } = await sender(t);
    await client.sendEvent(message('dropped'));
    await client.sendEvent(message('a', { properties: { a: '1' } }));
    await client.sendEvent(message('b', { properties: { b: '1' } }));
    await gets(first.of(deviceId), 'a');
    await gets(builtIn.of(deviceId), 'b');
  });

  test('and a fallback route elsewhere leave the built-in endpoint empty', async (t) => {
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('rest')] }, routes: [route(BUILT_IN, "b = '1'")], fallbackRoute: { endpointNames: ['rest'] },
    });
    const rest = await routing.readerOf(t, 'rest');
    const { device: { deviceId }, client } = await sender(t);
    await client.sendEvent(message('rest'));
    await client.sendEvent(message('b', { properties: { b: '1' } }));
    await gets(rest.of(deviceId), 'rest');
    await gets(builtIn.of(deviceId), 'b');
  });

  test('keep the order of a device at every endpoint, also with many partitions', async (t) => {
    await routing.put(t, { endpoints: { eventHubs: [inProcess('wide', 8)] }, routes: [route('wide'), route(BUILT_IN)] });
    const wide = await routing.readerOf(t, 'wide');
    const { device: { deviceId }, client } = await sender(t, speaking('mqtt')[0]);
    const bodies = Array.from({ length: 200 }, (_, i) => String(i));
    await Promise.all(bodies.map((body) => client.sendEvent(message(body))));
    await gets(wide.of(deviceId), ...bodies);
    await gets(builtIn.of(deviceId), ...bodies);
  });
});

describe('an enrichment', () => {
  test('is added for the endpoints that it names, and changes nothing that the device said', async (t) => {
    const { device, client } = await sender(t);
    await twins.patch(device, { tags: { place: { room: 'kitchen' } }, properties: { desired: { interval: 5 } } });
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('rich')] },
      routes: [route('rich'), route(BUILT_IN)],
      enrichments: [
        { key: 'stage', value: 'test', endpointNames: ['rich'] },
        { key: 'hub', value: '$iothubname', endpointNames: ['rich', BUILT_IN] },
        { key: 'room', value: '$twin.tags.place.room', endpointNames: ['rich'] },
        { key: 'interval', value: '$twin.properties.desired.interval', endpointNames: ['rich'] },
        { key: 'missing', value: '$twin.tags.nowhere', endpointNames: ['rich'] },
        { key: 'mine', value: 'the hub wrote this', endpointNames: ['rich'] },
      ],
    });
    const rich = await routing.readerOf(t, 'rich');
    await client.sendEvent(message('hello', { properties: { mine: 'the device wrote this' } }));
    const enriched = await rich.of(device.deviceId).take();
    assert.deepEqual(pick(enriched.properties, 'stage', 'hub', 'room', 'missing', 'mine'), {
      stage: 'test', hub: 'iolite', room: 'kitchen', missing: '$twin.tags.nowhere', mine: 'the device wrote this',
    });
    assert.equal(String(enriched.properties.interval), '5');
    const plain = await builtIn.of(device.deviceId).take();
    assert.deepEqual(pick(plain.properties, 'stage', 'hub', 'room', 'mine'), { stage: undefined, hub: 'iolite', room: undefined, mine: 'the device wrote this' });
  });

  test('takes the twin of the module that speaks', async (t) => {
    const module = await modules.create();
    await twins.patch(module, { tags: { part: 'camera' } });
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('rich')] }, routes: [route('rich')],
      enrichments: [{ key: 'part', value: '$twin.tags.part', endpointNames: ['rich'] }],
    });
    const rich = await routing.readerOf(t, 'rich');
    const client = await modules.connect(t, speaking('mqtt')[0], module);
    await client.sendEvent(message('hello'));
    assert.equal((await rich.of(module.deviceId).take()).properties.part, 'camera');
  });
});

describe('a routing', () => {
  test('can be tried out, and nothing is sent', async (t) => {
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('alarms')] },
      routes: [route('alarms', "severity = 'high' AND $body.t > 3"), { ...route(BUILT_IN, "$twin.tags.place = 'roof'"), name: 'roof' }],
    });
    const systemProperties = JSON_TEXT;
    const matched = await routing.tryOut({
      message: { body: '{"t":4}', appProperties: { severity: 'high' }, systemProperties }, twin: { tags: { place: 'roof' }, properties: { desired: {}, reported: {} } },
    });
    assert.deepEqual(matched.routes.map(({ properties }) => properties.name), ['DeviceMessages-to-alarms', 'roof']);
    assert.deepEqual([...matched.endpoints].sort(), ['alarms', BUILT_IN]);
    assert.equal(matched.fallback, false);
    const unmatched = await routing.tryOut({ message: { body: '{"t":4}', systemProperties } });
    assert.deepEqual(unmatched.routes, []);
    assert.deepEqual(unmatched.endpoints, [BUILT_IN]);
    assert.equal(unmatched.fallback, true);
  });

  test('that is replaced takes the event hubs with it that it does not have any more', async (t) => {
    const kept = [inProcess('kept')];
    await routing.put(t, { endpoints: { eventHubs: [...kept, inProcess('gone')] }, routes: [route('kept', "to = 'kept'"), route('gone', "to = 'gone'")] });
    const { device: { deviceId }, client } = await sender(t);
    const reader = await routing.readerOf(t, 'kept');
    await client.sendEvent(message('1', { properties: { to: 'kept' } }));
    await routing.put(t, { endpoints: { eventHubs: kept }, routes: [route('kept', "to = 'kept'")] });
    await client.sendEvent(message('2', { properties: { to: 'kept' } }));
    await gets(reader.of(deviceId), '1', '2');
    assert.ok(!(await eventHubs.list()).some(({ name }) => name === 'gone'));
  });

  const faults = {
    'with a route to nowhere': { routes: [route('nowhere')] },
    'with a route of two endpoints': { endpoints: { eventHubs: [inProcess('one')] }, routes: [{ ...route('one'), endpointNames: ['one', BUILT_IN] }] },
    'with two routes of one name': { routes: [route(BUILT_IN), route(BUILT_IN)] },
    'with two endpoints of one name': { endpoints: { eventHubs: [inProcess('one'), inProcess('One')] } },
    'with an unknown source': { routes: [route(BUILT_IN, 'true', { source: 'Weather' })] },
    'with an event hub of too many partitions': { endpoints: { eventHubs: [{ name: 'one', partitions: 33 }] } },
    'with an event hub that is called like the built-in endpoint': { endpoints: { eventHubs: [inProcess(BUILT_IN)] } },
    'with eleven endpoints': { endpoints: { eventHubs: Array.from({ length: 11 }, (_, i) => inProcess(`eh-${i}`)) } },
    'with 101 routes': { routes: Array.from({ length: 101 }, (_, i) => ({ ...route(BUILT_IN), name: `r-${i}` })) },
    'with eleven enrichments': { enrichments: Array.from({ length: 11 }, (_, i) => ({ key: `k${i}`, value: 'v', endpointNames: [BUILT_IN] })) },
    'with an enrichment for nobody': { enrichments: [{ key: 'k', value: 'v', endpointNames: ['nowhere'] }] },
    'with an enrichment of the whole twin': { enrichments: [{ key: 'k', value: '$twin.properties', endpointNames: [BUILT_IN] }] },
    'with a member that nobody knows': { weather: 'fine' },
    'with Avro, which Iolite cannot write': {
      endpoints: { storageContainers: [{ name: 'cold', connectionString: 'UseDevelopmentStorage=true', containerName: 'cold', encoding: 'Avro' }] },
    },
  };
  for (const [what, wrong] of Object.entries(faults)) {
    test(`${what} is refused as a whole`, async () => {
      const before = await routing.get();
      const answer = await routing.refused(wrong);
      assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status}: ${answer.text}`);
      assert.ok(answer.text.length > 20, answer.text);
      assert.deepEqual(await routing.get(), before);
    });
  }
});

function pick(from, ...keys) {
  return Object.fromEntries(keys.map((key) => [key, from?.[key]]));
}
