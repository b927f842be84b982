'use strict';

// Automatic device management: configurations in the registry, and what they do to twins (article "Automatic IoT device and module
// management").

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const modules = require('../../support/modules');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { speaking } = require('../../support/doors');
const { PEERS } = require('../../support/peers');
const { refusal, isRefused } = require('../../support/refusal');

let registry;

before(async () => {
  await service.load();
  registry = service.registry();
});

const body = async (promise) => (await promise).responseBody;
const get = (id) => body(registry.getConfiguration(id));
const deviceContent = (settings) => ({ deviceContent: { 'properties.desired.settings': settings } });

/** Adds a configuration that is removed when the test ends, and answers it. Without a target condition it has no target. */
async function add(t, { id = devices.freshId('cfg'), content = deviceContent({ value: 1 }), targetCondition = '', ...fields } = {}) {
  const added = await body(registry.addConfiguration({ id, content, targetCondition, ...fields }));
  t.after(() => registry.removeConfiguration(id).catch((err) => assert.equal(err.response.statusCode, 404)));
  return added;
}

/** A device with a tag of its own, and the condition that finds it. */
async function target() {
  const device = await devices.create();
  await twins.patch(device, { tags: { target: device.deviceId } });
  return { device, targetCondition: `tags.target = '${device.deviceId}'` };
}

const settingsOf = async (device) => (await twins.get(device)).properties.desired.settings;
const settles = (device, value) => hub.until(`the settings are ${JSON.stringify(value)}`, async () => {
  try {
    assert.deepEqual(await settingsOf(device), value);
    return true;
  } catch {
    return false;
  }
});

describe('configurations', () => {
  test('are added, read, listed and removed', async (t) => {
    const id = devices.freshId('cfg');
    const content = deviceContent({ mode: 'eco' });
    const added = await add(t, { id, content, priority: 10, labels: { app: 'mine' }, targetCondition: "tags.a = 'b'" });
    assert.equal(added.id, id);
    assert.equal(added.schemaVersion, '1.0');
    assert.equal(added.priority, 10);
    assert.deepEqual(added.labels, { app: 'mine' });
    assert.deepEqual(added.content.deviceContent, content.deviceContent);
    assert.equal(added.targetCondition, "tags.a = 'b'");
    assert.match(Buffer.from(added.etag, 'base64').toString(), /^\d+$/);
    for (const time of [added.createdTimeUtc, added.lastUpdatedTimeUtc]) assert.ok(!Number.isNaN(Date.parse(time)), time);
    assert.deepEqual(Object.keys(added.systemMetrics.queries).sort(), ['appliedCount', 'targetedCount']);
    assert.deepEqual(added.metrics, { results: {}, queries: {} });
    const { headers } = await service.rest('GET', `/configurations/${id}`);
    assert.equal(headers.get('etag'), `"${added.etag}"`);
    assert.equal((await get(id)).etag, added.etag);
    assert.ok((await body(registry.getConfigurations())).some((c) => c.id === id));
    assert.equal((await service.rest('GET', '/configurations?top=1')).body.length, 1);
    const { httpResponse } = await registry.removeConfiguration(id);
    assert.equal(httpResponse.statusCode, 204);
    await assert.rejects(get(id), refusal(404, 'ConfigurationNotFound'));
    await assert.rejects(registry.removeConfiguration(id), refusal(404, 'ConfigurationNotFound'));
  });

  test('have a priority of 0 when nothing is said about it', async (t) => {
    assert.equal((await add(t)).priority, 0);
  });

  test('are not added twice', async (t) => {
    const { id } = await add(t);
    await assert.rejects(registry.addConfiguration({ id, content: deviceContent({}) }), refusal(409, 'ConfigurationAlreadyExists'));
  });

  test('are updated under the etag they have, or by force', async (t) => {
    const stale = await add(t);
    const fresh = await body(registry.updateConfiguration({ ...stale, priority: 1, labels: { a: 'b' } }));
    assert.equal(fresh.priority, 1);
    assert.deepEqual(fresh.labels, { a: 'b' });
    assert.notEqual(fresh.etag, stale.etag);
    assert.equal(fresh.createdTimeUtc, stale.createdTimeUtc);
    await assert.rejects(registry.updateConfiguration({ ...stale, priority: 2 }), refusal(412, 'PreconditionFailed'));
    assert.equal((await body(registry.updateConfiguration({ ...stale, priority: 3 }, true))).priority, 3);
    await assert.rejects(registry.updateConfiguration({ ...stale, id: devices.freshId('cfg') }, true), refusal(404, 'ConfigurationNotFound'));
  });

  test('do not change their content', async (t) => {
    const added = await add(t, { content: deviceContent({ value: 1 }) });
    await registry.updateConfiguration({ ...added, content: deviceContent({ value: 2 }) });
    assert.deepEqual((await get(added.id)).content.deviceContent, { 'properties.desired.settings': { value: 1 } });
  });

  test('may be removed under an etag', async (t) => {
    const stale = await add(t);
    const fresh = await body(registry.updateConfiguration({ ...stale, priority: 1 }));
    const remove = (etag) => service.rest('DELETE', `/configurations/${stale.id}`, { headers: { 'if-match': `"${etag}"` } });
    isRefused(await remove(stale.etag), 412, 'PreconditionFailed');
    assert.equal((await remove(fresh.etag)).status, 204);
  });

  for (const [what, { errorCode, ...configuration }] of Object.entries({
    'a condition that is none': { targetCondition: 'tags.a =', errorCode: 'InvalidConfigurationTargetCondition' },
    'a path outside the desired properties': { content: { deviceContent: { 'tags.a': 1 } }, errorCode: 'InvalidConfigurationContent' },
    'settings that no twin may hold': { content: { deviceContent: { 'properties.desired.a': { 'b.c': 1 } } }, errorCode: 'InvalidConfigurationContent' },
    'content for devices and modules at once': {
      content: { deviceContent: { 'properties.desired.a': 1 }, modulesContent: { m: { 'properties.desired': {} } } }, errorCode: 'InvalidConfigurationContent',
    },
    'a metric that is no query': { metrics: { queries: { wrong: 'SELECT FROM' } }, errorCode: 'InvalidConfigurationCustomMetricsQuery' },
    'a priority that is negative': { priority: -1, errorCode: 'ArgumentInvalid' },
  })) {
    test(`are refused with ${what}`, async () => {
      const id = devices.freshId('cfg');
      const wrong = { id, content: deviceContent({ value: 1 }), targetCondition: '', ...configuration };
      await assert.rejects(registry.addConfiguration(wrong), refusal(400, errorCode));
      await assert.rejects(get(id), refusal(404, 'ConfigurationNotFound'));
    });
  }

  test('are refused with an id against the grammar', async () => {
    for (const id of ['Upper', 'a b', 'a.b', 'x'.repeat(129)]) {
      await assert.rejects(registry.addConfiguration({ id, content: deviceContent({}) }), refusal(400, 'ArgumentInvalid'), id);
    }
  });

  test('can have their queries tried before', async () => {
    const attempt = (queries) => service.rest('POST', '/configurations/testQueries', { body: queries });
    const good = await attempt({ targetCondition: "tags.a = 'b'", customMetricQueries: { m: "SELECT deviceId FROM devices WHERE tags.a = 'b'" } });
    assert.equal(good.status, 200);
    assert.deepEqual(good.body, { targetConditionError: null, customMetricQueryErrors: {} });
    const bad = await attempt({ targetCondition: 'tags.a =', customMetricQueries: { m: 'SELECT', n: 'SELECT * FROM devices' } });
    assert.equal(bad.status, 200);
    assert.ok(bad.body.targetConditionError);
    assert.deepEqual(Object.keys(bad.body.customMetricQueryErrors), ['m']);
  });
});

describe('a configuration', () => {
  test('is applied to the devices that its condition finds, and to no other', async (t) => {
    const { device, targetCondition } = await target();
    const bystander = await devices.create();
    const { id } = await add(t, { targetCondition, content: deviceContent({ interval: 5, nested: { deep: true } }) });
    await settles(device, { interval: 5, nested: { deep: true } });
    assert.deepEqual((await twins.get(device)).configurations?.[id], { status: 'Applied' });
    assert.equal(await settingsOf(bystander), undefined);
  });

  for (const peer of PEERS) {
    for (const door of speaking('mqtt', 'amqp')) {
      test(`is heard by a ${peer.kind} that listens on ${door.name}`, async (t) => {
        const identity = await peer.create();
        await twins.patch(identity, { tags: { target: identity.deviceId } });
        const changes = await twins.follow(await peer.connect(t, door, identity));
        const where = `tags.target = '${identity.deviceId}'`;
        const settings = { 'properties.desired.settings': { interval: 5 } };
        if (identity.moduleId) await add(t, { targetCondition: `FROM devices.modules WHERE ${where}`, content: { moduleContent: settings } });
        else await add(t, { targetCondition: where, content: { deviceContent: settings } });
        assert.deepEqual((await changes.take()).settings, { interval: 5 });
      });
    }
  }

  test('is applied to devices that come to match later', async (t) => {
    const device = await devices.create();
    await add(t, { targetCondition: `tags.target = '${device.deviceId}'`, content: deviceContent({ late: true }) });
    await twins.patch(device, { tags: { target: device.deviceId } });
    await settles(device, { late: true });
  });

  test('reaches devices when its condition is changed', async (t) => {
    const { device, targetCondition } = await target();
    const added = await add(t, { content: deviceContent({ value: 1 }) });
    await registry.updateConfiguration({ ...added, targetCondition });
    await settles(device, { value: 1 });
  });

  test('gives way to one of higher priority, and comes back when that one goes', async (t) => {
    const { device, targetCondition } = await target();
    const low = await add(t, { targetCondition, priority: 1, content: deviceContent({ from: 'low' }) });
    await settles(device, { from: 'low' });
    const high = await add(t, { targetCondition, priority: 2, content: deviceContent({ from: 'high' }) });
    await settles(device, { from: 'high' });
    const { configurations } = await twins.get(device);
    assert.deepEqual(configurations[high.id], { status: 'Applied' });
    assert.deepEqual(configurations[low.id], { status: 'Targeted' });
    await registry.removeConfiguration(high.id);
    await settles(device, { from: 'low' });
  });

  test('gives way to a newer one of the same priority', async (t) => {
    const { device, targetCondition } = await target();
    await add(t, { targetCondition, priority: 5, content: deviceContent({ from: 'older' }) });
    await settles(device, { from: 'older' });
    await add(t, { targetCondition, priority: 5, content: deviceContent({ from: 'newer' }) });
    await settles(device, { from: 'newer' });
  });

  test('does not give way to one of lower priority', async (t) => {
    const { device, targetCondition } = await target();
    await add(t, { targetCondition, priority: 9, content: deviceContent({ from: 'high' }) });
    await settles(device, { from: 'high' });
    const low = await add(t, { targetCondition, priority: 1, content: deviceContent({ from: 'low' }) });
    await hub.until('the lower one is known to target it', async () => (await twins.get(device)).configurations?.[low.id]?.status === 'Targeted');
    assert.deepEqual(await settingsOf(device), { from: 'high' });
  });

  test('counts whom it targets and where it is applied, and answers its own metrics', async (t) => {
    const { device, targetCondition } = await target();
    const { id } = await add(t, { targetCondition, metrics: { queries: { mine: `SELECT deviceId FROM devices WHERE ${targetCondition}` } } });
    await settles(device, { value: 1 });
    const { systemMetrics, metrics } = await hub.until('the metrics tell', async () => {
      const configuration = await get(id);
      return configuration.systemMetrics.results.appliedCount === 1 && configuration;
    });
    assert.deepEqual(systemMetrics.results, { targetedCount: 1, appliedCount: 1 });
    assert.deepEqual(metrics.results, { mine: 1 });
    const { result } = await registry.createQuery(`SELECT deviceId FROM devices WHERE configurations.[[${id}]].status = 'Applied'`).next();
    assert.deepEqual(result, [{ deviceId: device.deviceId }]);
  });
});

describe('configuration content applied to one device', () => {
  const modulesContent = {
    $edgeAgent: { 'properties.desired': { schemaVersion: '1.0', modules: { filter: { version: '1.0', type: 'docker' } } } },
    $edgeHub: { 'properties.desired': { schemaVersion: '1.0', routes: {} } },
    filter: { 'properties.desired': { threshold: 7 } },
  };

  test('sets the desired properties of an edge device\'s modules', async () => {
    const { deviceId } = await devices.create({ capabilities: { iotEdge: true } });
    await modules.create({ deviceId, moduleId: 'filter' });
    await registry.applyConfigurationContentOnDevice(deviceId, { modulesContent });
    assert.equal((await twins.get({ deviceId, moduleId: 'filter' })).properties.desired.threshold, 7);
    assert.equal((await twins.get({ deviceId, moduleId: '$edgeAgent' })).properties.desired.modules.filter.type, 'docker');
    assert.deepEqual((await twins.get({ deviceId, moduleId: '$edgeHub' })).properties.desired.routes, {});
  });

  test('makes the modules that it names', async () => {
    const { deviceId } = await devices.create({ capabilities: { iotEdge: true } });
    await registry.applyConfigurationContentOnDevice(deviceId, { modulesContent });
    const listed = (await body(registry.getModulesOnDevice(deviceId))).map((m) => m.moduleId).sort();
    assert.deepEqual(listed, ['$edgeAgent', '$edgeHub', 'filter']);
    assert.equal((await twins.get({ deviceId, moduleId: 'filter' })).properties.desired.threshold, 7);
  });

  test('is refused for a device that is none of IoT Edge, and for one that does not exist', async () => {
    const { deviceId } = await devices.create();
    await assert.rejects(registry.applyConfigurationContentOnDevice(deviceId, { modulesContent }), { name: 'ArgumentError' });
    await assert.rejects(registry.applyConfigurationContentOnDevice(devices.freshId(), { modulesContent }), refusal(404, 'DeviceNotFound'));
  });

  test('is refused when it is no content', async () => {
    const { deviceId } = await devices.create({ capabilities: { iotEdge: true } });
    await assert.rejects(registry.applyConfigurationContentOnDevice(deviceId, { modulesContent: { filter: 7 } }), { name: 'ArgumentError' });
  });
});
