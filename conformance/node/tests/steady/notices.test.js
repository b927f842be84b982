'use strict';

// Events other than telemetry, which a route has to ask for: changes of twins, lifecycle, connection state, digital twins, jobs. Their form is
// that of the article "Azure IoT Hub non-telemetry event schemas".

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const jobs = require('../../support/jobs');
const modules = require('../../support/modules');
const routing = require('../../support/routing');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { PEERS } = require('../../support/peers');
const { speaking } = require('../../support/doors');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { route, inProcess } = routing;

const CONNECTED_DOORS = speaking('mqtt', 'amqp');
const MODEL = 'dtmi:com:example:Thermostat;1';
const SOURCES = {
  twins: 'TwinChangeEvents', lifecycle: 'DeviceLifecycleEvents', connections: 'DeviceConnectionStateEvents',
  'digital-twins': 'DigitalTwinChangeEvents', jobs: 'DeviceJobLifecycleEvents',
};

const file = fileScope();
let readers; // by the names above

before(async () => {
  await service.load();
  const names = Object.keys(SOURCES);
  await routing.put(file, {
    endpoints: { eventHubs: names.map((name) => inProcess(name)) },
    routes: names.map((name) => route(name, undefined, { source: SOURCES[name] })),
  });
  readers = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await routing.readerOf(file, name)])));
});

/** What all of these events have in common. Answers the body. */
async function check(event, { deviceId, moduleId }, { source, schema, opType, contentType = 'application/json' }) {
  const { properties, systemProperties } = event;
  assert.equal(systemProperties['iothub-message-source'], source);
  assert.equal(systemProperties['iothub-connection-device-id'], deviceId);
  assert.equal(systemProperties['iothub-connection-module-id'], moduleId);
  assert.equal(event.contentType, contentType);
  assert.equal(systemProperties.contentEncoding, 'utf-8');
  assert.ok(event.correlationId);
  assert.equal(properties.hubName, 'iolite');
  assert.equal(properties.deviceId, deviceId);
  assert.equal(properties.moduleId, moduleId);
  assert.equal(properties.opType, opType);
  assert.equal(properties['iothub-message-schema'], schema);
  assert.match(properties.operationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
  assert.ok(new Date(properties.operationTimestamp) <= await hub.now());
  return JSON.parse(event.body.toString());
}

for (const { kind, create, connect } of PEERS) {
  describe(`the twin of a ${kind}`, () => {
    const UPDATED = { source: 'twinChangeEvents', schema: 'twinChangeNotification', opType: 'updateTwin' };
    const REPLACED = { ...UPDATED, opType: 'replaceTwin' };

    test('that a back end changes: an event with what was changed, and its metadata', async () => {
      const identity = await create();
      const before = await twins.get(identity);
      await twins.patch(identity, { tags: { place: 'roof' }, properties: { desired: { interval: 5 } } });
      const body = await check(await readers.twins.of(identity.deviceId).take(), identity, UPDATED);
      assert.equal(body.version, before.version + 1);
      assert.deepEqual(body.tags, { place: 'roof' });
      const { interval, $version, $metadata } = body.properties.desired;
      assert.equal(interval, 5);
      assert.equal($version, before.properties.desired.$version + 1);
      assert.equal($metadata.interval.$lastUpdatedVersion, $version);
      assert.equal(body.properties.reported, undefined);
    });

    test('that loses a property: null in the event', async () => {
      const identity = await create();
      await twins.desire(identity, { interval: 5, kept: true });
      await twins.desire(identity, { interval: null });
      const inbox = readers.twins.of(identity.deviceId);
      await inbox.take();
      const body = await check(await inbox.take(), identity, UPDATED);
      assert.equal(body.properties.desired.interval, null);
      assert.equal(body.properties.desired.kept, undefined);
    });

    test('that is replaced: an event with all of it', async () => {
      const identity = await create();
      const { status } = await twins.replace(identity, { tags: { place: 'cellar' }, properties: { desired: { interval: 7 } } });
      assert.equal(status, 200);
      const body = await check(await readers.twins.of(identity.deviceId).take(), identity, REPLACED);
      assert.equal(body.deviceId, identity.deviceId);
      assert.equal(body.moduleId, identity.moduleId);
      assert.deepEqual(body.tags, { place: 'cellar' });
      assert.equal(body.properties.desired.interval, 7);
      assert.ok(body.etag);
      assert.ok(body.properties.reported.$version >= 1);
    });

    for (const door of CONNECTED_DOORS) {
      test(`that reports over ${door.name}: an event with what was reported`, async (t) => {
        const identity = await create();
        const client = await connect(t, door, identity);
        await twins.report(client, { battery: { percent: 80 } });
        const body = await check(await readers.twins.of(identity.deviceId).take(), identity, UPDATED);
        assert.deepEqual(body.properties.reported.battery, { percent: 80 });
        assert.equal(body.properties.reported.$metadata.battery.percent.$lastUpdated.slice(0, 4), String((await hub.now()).getUTCFullYear()));
        assert.equal(body.properties.desired, undefined);
        assert.equal(body.tags, undefined);
      });
    }
  });

  describe(`a ${kind}`, () => {
    test('that is created and deleted: an event each, with its twin', async () => {
      const identity = await create();
      const { deviceId, moduleId } = identity;
      const inbox = readers.lifecycle.of(deviceId);
      const form = { source: 'deviceLifecycleEvents', schema: 'deviceLifecycleNotification' };
      if (moduleId) await check(await inbox.take(), { deviceId }, { ...form, opType: 'createDeviceIdentity' });
      const created = await check(await inbox.take(), identity, { ...form, opType: 'createDeviceIdentity' });
      assert.equal(created.deviceId, deviceId);
      assert.equal(created.moduleId, moduleId);
      assert.equal(created.etag, 'AAAAAAAAAAE=');
      assert.equal(created.version, 2);
      assert.deepEqual(Object.keys(created.properties.desired).sort(), ['$metadata', '$version']);
      assert.equal(created.properties.desired.$version, 1);
      const registry = service.registry();
      await (moduleId ? registry.removeModule(deviceId, moduleId) : registry.delete(deviceId));
      const deleted = await check(await inbox.take(), identity, { ...form, opType: 'deleteDeviceIdentity' });
      assert.equal(deleted.deviceId, deviceId);
      assert.equal(deleted.moduleId, moduleId);
    });

    for (const door of CONNECTED_DOORS) {
      test(`that comes and goes over ${door.name}: an event each, whose numbers rise`, async (t) => {
        const identity = await create();
        const { moduleId } = identity;
        const inbox = readers.connections.of(identity.deviceId);
        const form = { source: 'deviceConnectionStateEvents', schema: 'deviceConnectionStateNotification' };
        const numbers = [];
        for (let round = 0; round < 2; round++) {
          const client = await connect(t, door, identity);
          // Over AMQP a device is there with its first link, which the SDK opens with the first listener.
          client.on(moduleId ? 'inputMessage' : 'message', () => {});
          numbers.push(await check(await inbox.take(), identity, { ...form, opType: 'deviceConnected' }));
          await client.close();
          numbers.push(await check(await inbox.take(), identity, { ...form, opType: 'deviceDisconnected' }));
        }
        const texts = numbers.map(({ sequenceNumber }) => sequenceNumber);
        for (const text of texts) assert.match(text, /^[0-9A-F]{64}$/);
        assert.deepEqual([...texts].sort(), texts);
        assert.equal(new Set(texts).size, texts.length);
      });
    }
  });
}

describe('a device', () => {
  test('that is cut off: an event that it has gone', async (t) => {
    const device = await devices.create();
    const inbox = readers.connections.of(device.deviceId);
    await devices.connect(t, CONNECTED_DOORS[0], device);
    assert.equal((await inbox.take()).properties.opType, 'deviceConnected');
    await hub.disconnect(device.deviceId);
    assert.equal((await inbox.take()).properties.opType, 'deviceDisconnected');
  });

  test('that is deleted takes its modules with it: an event for each', async () => {
    const module = await modules.create();
    const { deviceId, moduleId } = module;
    const inbox = readers.lifecycle.of(deviceId);
    await inbox.takeMany(2);
    await service.registry().delete(deviceId);
    const gone = await inbox.takeMany(2);
    assert.deepEqual(gone.map(({ properties }) => [properties.opType, properties.moduleId]),
      [['deleteDeviceIdentity', moduleId], ['deleteDeviceIdentity', undefined]]);
  });

  test('that is imported in bulk: an event each', async () => {
    const ids = [devices.freshId('bulk'), devices.freshId('bulk')];
    await service.registry().addDevices(ids.map((deviceId) => ({ deviceId, status: 'enabled' })));
    for (const deviceId of ids) assert.equal((await readers.lifecycle.of(deviceId).take()).properties.opType, 'createDeviceIdentity');
  });

  test('with a model changes its digital twin: an event with a JSON patch', async (t) => {
    const device = await devices.create();
    const client = devices.client(t, CONNECTED_DOORS[0], device);
    await client.setOptions({ modelId: MODEL });
    await client.open();
    const inbox = readers['digital-twins'].of(device.deviceId);
    const form = { source: 'digitalTwinChangeEvents', schema: 'digitalTwinChangeNotification', opType: 'updateTwin', contentType: 'application/json-patch+json' };
    assert.deepEqual(await check(await inbox.take(), device, form), [{ op: 'replace', path: '/$metadata/$model', value: MODEL }]);
    await twins.desire(device, { targetTemperature: 20 });
    const [desired] = await check(await inbox.take(), device, form);
    assert.equal(desired.op, 'add');
    assert.equal(desired.path, '/$metadata/targetTemperature');
    assert.equal(desired.value.desiredValue, 20);
    await twins.report(client, { targetTemperature: 21 });
    const reported = await check(await inbox.take(), device, form);
    assert.deepEqual(reported.find(({ path }) => path === '/targetTemperature'), { op: 'add', path: '/targetTemperature', value: 21 });
  });

  test('without one has none', async () => {
    const device = await devices.create();
    await twins.desire(device, { targetTemperature: 20 });
    await readers.twins.of(device.deviceId).take();
    assert.equal(readers['digital-twins'].of(device.deviceId).left, 0);
  });
});

describe('a job', () => {
  test('that ends for a device: an event that says how', async () => {
    const device = await devices.create();
    const jobId = jobs.freshId();
    await jobs.updateTwins([device], { tags: { a: 1 } }, { jobId });
    const event = await readers.jobs.of(device.deviceId).take();
    assert.equal(event.systemProperties['iothub-message-source'], 'deviceJobLifecycleEvents');
    assert.ok(event.body.toString().includes(jobId), event.body.toString());
  });
});

// These have routings of their own, with which the event hubs of the readers above go: they come last.
describe('the condition of a route for events other than telemetry', () => {
  test('looks at their properties and their body', async (t) => {
    await routing.put(t, {
      endpoints: { eventHubs: [inProcess('chosen')] },
      routes: [
        route('chosen', "opType = 'updateTwin' AND $body.properties.desired.interval > 5", { source: SOURCES.twins }),
        route('chosen', "opType = 'createDeviceIdentity'", { source: SOURCES.lifecycle }),
      ],
    });
    const chosen = await routing.readerOf(t, 'chosen');
    const device = await devices.create();
    for (const interval of [4, 6, 5]) await twins.desire(device, { interval });
    await twins.replace(device, { properties: { desired: { interval: 8 } } });
    await twins.desire(device, { interval: 9 });
    await service.registry().delete(device.deviceId);
    const events = await chosen.of(device.deviceId).takeMany(3);
    assert.deepEqual(events.map(({ properties }) => properties.opType), ['createDeviceIdentity', 'updateTwin', 'updateTwin']);
    assert.deepEqual(events.slice(1).map(({ body }) => JSON.parse(body.toString()).properties.desired.interval), [6, 9]);
    assert.equal(chosen.of(device.deviceId).left, 0);
  });

  test('does not concern the fallback route: what nobody asked for comes to nobody', async (t) => {
    await routing.put(t, { endpoints: { eventHubs: [inProcess('chosen')] }, routes: [route('chosen', 'false', { source: SOURCES.twins })] });
    const builtIn = await Reader.open(t);
    const device = await devices.create();
    await twins.desire(device, { interval: 1 });
    const client = await devices.connect(t, speaking('http')[0], device);
    await client.sendEvent(service.message('telemetry'));
    assert.equal((await builtIn.of(device.deviceId).take()).systemProperties['iothub-message-source'], 'Telemetry');
  });

  test('may send them to the built-in endpoint', async (t) => {
    await routing.put(t, { routes: [route('events', undefined, { source: SOURCES.twins })] });
    const builtIn = await Reader.open(t);
    const device = await devices.create();
    await twins.desire(device, { interval: 1 });
    const event = await builtIn.of(device.deviceId).take();
    assert.equal(event.systemProperties['iothub-message-source'], 'twinChangeEvents');
  });
});
