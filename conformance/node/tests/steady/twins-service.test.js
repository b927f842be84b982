'use strict';

// Twins as back ends see and write them.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { Twin } = require('azure-iothub');
const devices = require('../../support/devices');
const modules = require('../../support/modules');
const hub = require('../../support/hub');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { createSelfSigned, thumbprint } = require('../../support/certificates');
const { speaking } = require('../../support/doors');
const { PEERS } = require('../../support/peers');
const { refusal, isRefused } = require('../../support/refusal');

const KB = 1024;
const MODEL = 'dtmi:com:example:Thermostat;1';
const NEVER = '0001-01-01T00:00:00Z';

let registry;

before(async () => {
  await service.load();
  registry = service.registry();
});

const nested = (depth) => (depth === 0 ? 1 : { a: nested(depth - 1) });
const filled = (parts) => Object.fromEntries(Array.from({ length: parts }, (_, i) => [`part${i}`, 'x'.repeat(4000)]));

async function identityOf({ deviceId, moduleId }) {
  return (await (moduleId ? registry.getModule(deviceId, moduleId) : registry.get(deviceId))).responseBody;
}

for (const peer of PEERS) {
  describe(`the twin of a ${peer.kind}`, () => {
    test('is there with its identity, empty, and says what the registry says', async () => {
      const identity = await peer.create();
      const { status, headers, body } = await service.rest('GET', twins.path(identity));
      assert.equal(status, 200);
      assert.equal(headers.get('etag'), `"${body.etag}"`);
      const { etag } = await identityOf(identity);
      assert.equal(body.deviceId, identity.deviceId);
      assert.equal(body.moduleId, identity.moduleId);
      assert.equal(body.deviceEtag, etag);
      assert.equal(body.status, 'enabled');
      assert.equal(body.connectionState, 'Disconnected');
      assert.equal(body.lastActivityTime, NEVER);
      assert.equal(body.cloudToDeviceMessageCount, 0);
      assert.equal(body.authenticationType, 'sas');
      assert.deepEqual(body.x509Thumbprint, { primaryThumbprint: null, secondaryThumbprint: null });
      assert.equal(body.modelId, '');
      assert.equal(body.version, 2);
      assert.equal(Buffer.from(body.etag, 'base64').length, 8);
      for (const part of ['desired', 'reported']) {
        const { $version, $metadata, ...rest } = body.properties[part];
        assert.deepEqual(rest, {});
        assert.equal($version, 1);
        assert.ok(!Number.isNaN(Date.parse($metadata.$lastUpdated)));
      }
      assert.ok(!('tags' in body));
      if (peer.kind === 'device') assert.deepEqual(body.capabilities, { iotEdge: false });
    });

    test('is patched: objects are merged, null removes, arrays are replaced; versions, etag and metadata follow', async () => {
      const identity = await peer.create();
      const first = await twins.patch(identity, { tags: { place: { floor: 1, room: 'a' } }, properties: { desired: { radio: { on: true, list: [1, 2] } } } });
      const second = await twins.patch(identity, { tags: { place: { room: null } }, properties: { desired: { radio: { list: [3] } } } }, first.etag);
      assert.deepEqual(second.tags, { place: { floor: 1 } });
      const { $version, $metadata, ...desired } = second.properties.desired;
      assert.deepEqual(desired, { radio: { on: true, list: [3] } });
      assert.equal($version, 3);
      assert.equal($metadata.$lastUpdatedVersion, 3);
      assert.equal($metadata.radio.$lastUpdatedVersion, 3);
      assert.equal($metadata.radio.list.$lastUpdatedVersion, 3);
      assert.equal($metadata.radio.on.$lastUpdatedVersion, 2);
      assert.ok(Date.parse($metadata.radio.on.$lastUpdated) <= Date.parse($metadata.radio.list.$lastUpdated));
      assert.equal(second.properties.reported.$version, 1);
      assert.deepEqual([first.version, second.version], [3, 4]);
      assert.notEqual(first.etag, second.etag);
      assert.deepEqual(JSON.parse(JSON.stringify(await twins.get(identity))).properties, JSON.parse(JSON.stringify(second)).properties);
      assert.equal((await twins.get(identity)).etag, second.etag);
    });

    test('is patched only under the etag it has: a stale one is InvalidEtagError and changes nothing', async () => {
      const identity = await peer.create();
      const stale = await twins.get(identity);
      const fresh = await twins.desire(identity, { by: 'another' });
      const stalePatch = { properties: { desired: { by: 'me' } }, tags: { by: 'me' } };
      await assert.rejects(twins.patch(identity, stalePatch, stale.etag), refusal(412, 'PreconditionFailed'));
      await assert.rejects(stale.update(stalePatch), refusal(412, 'PreconditionFailed')); // the SDK's twin sends the etag that it was read with
      const after = await twins.get(identity);
      assert.equal(after.etag, fresh.etag);
      assert.equal(after.properties.desired.by, 'another');
      await fresh.update(stalePatch);
      assert.equal((await twins.get(identity)).tags.by, 'me');
      await twins.patch(identity, { tags: { by: 'anybody' } }, '*');
      assert.equal((await twins.get(identity)).tags.by, 'anybody');
    });

    test('keeps its etag when the identity reports', async (t) => {
      const identity = await peer.create();
      const before = await twins.desire(identity, { a: 1 });
      const [door] = speaking('mqtt');
      await twins.report(await peer.connect(t, door, identity), { b: 2 });
      const after = await twins.get(identity);
      assert.equal(after.etag, before.etag);
      assert.equal(after.version, before.version + 1);
      await before.update({ properties: { desired: { a: 3 } } });
    });

    test('is replaced: what is not given is gone, reported properties stay', async (t) => {
      const identity = await peer.create();
      const [door] = speaking('mqtt');
      await twins.report(await peer.connect(t, door, identity), { mine: 1 });
      const before = await twins.patch(identity, { tags: { old: 1 }, properties: { desired: { old: 1, both: { a: 1, b: 2 } } } });
      const { status, body } = await twins.replace(identity, { tags: { new: 2 }, properties: { desired: { both: { b: 2 } } } }, { 'if-match': `"${before.etag}"` });
      assert.equal(status, 200);
      assert.deepEqual(body.tags, { new: 2 });
      const { $version, $metadata, ...desired } = body.properties.desired;
      assert.deepEqual(desired, { both: { b: 2 } });
      assert.equal($version, 3);
      assert.equal($metadata.old, undefined);
      assert.equal(body.properties.reported.mine, 1);
      const cleared = await twins.replace(identity, {});
      assert.ok(!('tags' in cleared.body));
      assert.deepEqual(Object.keys(cleared.body.properties.desired).sort(), ['$metadata', '$version']);
      isRefused(await twins.replace(identity, {}, { 'if-match': `"${before.etag}"` }), 412, 'PreconditionFailed');
    });

    test('may be sent back as it was read: what only the hub writes is ignored', async () => {
      const identity = await peer.create();
      const twin = await twins.patch(identity, { tags: { a: 1 }, properties: { desired: { b: { c: 2 } } } });
      const sent = { ...JSON.parse(JSON.stringify(twin)), connectionState: 'Connected', version: 99, modelId: MODEL, deviceEtag: 'x' };
      sent.properties.reported.forged = true;
      const { status, body } = await twins.replace(identity, sent);
      assert.equal(status, 200);
      assert.deepEqual(body.tags, { a: 1 });
      assert.deepEqual(body.properties.desired.b, { c: 2 });
      assert.equal(body.properties.reported.forged, undefined);
      assert.equal(body.connectionState, 'Disconnected');
      assert.equal(body.modelId, '');
      assert.equal(body.version, twin.version + 1);
    });

    test('an integer beyond what JavaScript keeps is refused, a number is kept as it was written', async () => {
      const identity = await peer.create();
      isRefused(await service.rest('PATCH', twins.path(identity), { body: '{"properties":{"desired":{"n":9007199254740993}}}' }), 400, 'ArgumentInvalid');
      const { status, text } = await service.rest('PATCH', twins.path(identity), { body: '{"properties":{"desired":{"n":4503599627370495,"m":-4503599627370496,"f":0.1000}}}' });
      assert.equal(status, 200);
      assert.match(text, /"n":4503599627370495\b/);
      assert.match(text, /"m":-4503599627370496\b/);
    });

    for (const [what, { change, message }] of Object.entries({
      'tags of more than 8 KB': { change: { tags: filled(3) }, message: /tags/ },
      'desired properties of more than 32 KB': { change: { properties: { desired: filled(9) } }, message: /desired/ },
      'more than ten levels of tags': { change: { tags: nested(12) }, message: /tags/ },
      'more than ten levels of desired properties': { change: { properties: { desired: nested(12) } }, message: /desired/ },
      'a dot in a name': { change: { tags: { 'a.b': 1 } }, message: /a\.b/ },
      'a dollar sign in a name': { change: { properties: { desired: { a: { $b: 1 } } } }, message: /\$b/ },
      'a space in a name': { change: { properties: { desired: { 'a b': 1 } } }, message: /a b/ },
      'a name of more than 1 KB': { change: { tags: { ['n'.repeat(KB + 1)]: 1 } }, message: /nnn/ },
      'a text of more than 4 KB': { change: { tags: { long: 'x'.repeat(4 * KB + 1) } }, message: /long/ },
      'null in an array': { change: { properties: { desired: { list: [null] } } }, message: /list/ },
      'tags that are no object': { change: { tags: 'roof' }, message: /tags/ },
      'desired properties that are no object': { change: { properties: { desired: [1] } }, message: /desired/ },
      'properties that are no object': { change: { properties: 7 }, message: /properties/ },
    })) {
      test(`does not take ${what}`, async () => {
        const identity = await peer.create();
        const before = await twins.patch(identity, { tags: { kept: 1 }, properties: { desired: { kept: 1 } } });
        await assert.rejects(twins.patch(identity, change), (err) => {
          assert.match(err.responseBody, message);
          return refusal(400, 'ArgumentInvalid')(err);
        });
        isRefused(await twins.replace(identity, change), 400, 'ArgumentInvalid');
        assert.equal((await twins.get(identity)).etag, before.etag);
      });
    }

    test('takes tags of almost 8 KB and desired properties of almost 32 KB', async () => {
      const identity = await peer.create();
      const { tags, properties } = await twins.patch(identity, { tags: filled(2), properties: { desired: filled(8) } });
      assert.equal(tags.part1.length, 4000);
      assert.equal(properties.desired.part7.length, 4000);
      await assert.rejects(twins.patch(identity, { tags: { one: 'x'.repeat(400) } }), refusal(400, 'ArgumentInvalid')); // the sum counts
    });

    for (const door of speaking('mqtt', 'amqp')) {
      test(`says whether it is connected on ${door.name}, and when it was last active`, async (t) => {
        const identity = await peer.create();
        const before = await hub.now();
        const client = await peer.connect(t, door, identity);
        await twins.own(client); // on AMQP a device appears with its first link
        const connected = await twins.get(identity);
        assert.equal(connected.connectionState, 'Connected');
        assert.ok(Date.parse(connected.lastActivityTime) >= before - 1, connected.lastActivityTime);
        await client.close();
        const gone = await hub.until('the twin says Disconnected', async () => {
          const twin = await twins.get(identity);
          return twin.connectionState === 'Disconnected' && twin;
        });
        assert.ok(Date.parse(gone.lastActivityTime) >= Date.parse(connected.lastActivityTime));
        assert.equal(gone.etag, connected.etag);
      });
    }

    test('goes with its identity, and one of the same name begins anew', async () => {
      const identity = await peer.create();
      await twins.patch(identity, { tags: { old: 1 }, properties: { desired: { old: 1 } } });
      if (identity.moduleId) await registry.removeModule(identity.deviceId, identity.moduleId);
      else await registry.delete(identity.deviceId);
      await assert.rejects(twins.get(identity), refusal(404, 'DeviceNotFound'));
      await assert.rejects(twins.desire(identity, { a: 1 }), refusal(404, 'DeviceNotFound'));
      isRefused(await twins.replace(identity, {}), 404, 'DeviceNotFound');
      if (identity.moduleId) await modules.create(identity);
      else await devices.create({ deviceId: identity.deviceId });
      const again = await twins.get(identity);
      assert.deepEqual(again.tags, {});
      assert.equal(again.properties.desired.$version, 1);
    });

    test('of one that never was is DeviceNotFoundError', async () => {
      const { deviceId } = await devices.create();
      const identity = peer.kind === 'device' ? { deviceId: devices.freshId() } : { deviceId, moduleId: 'nobody' };
      await assert.rejects(twins.get(identity), refusal(404, 'DeviceNotFound'));
    });
  });
}

describe('the twin of a device', () => {
  test('counts the messages that wait for it', async (t) => {
    const device = await devices.create();
    const backEnd = await service.connect(t);
    for (const text of ['one', 'two']) await backEnd.send(device.deviceId, service.message(text));
    assert.equal((await twins.get(device)).cloudToDeviceMessageCount, 2);
    await service.purge(device.deviceId);
    assert.equal((await twins.get(device)).cloudToDeviceMessageCount, 0);
  });

  for (const door of speaking('mqtt')) { // the Node SDK tells no model on AMQP
    test(`names the model with which it connected over ${door.name}`, async (t) => {
      const device = await devices.create();
      const client = devices.client(t, door, device);
      await client.setOptions({ modelId: MODEL });
      await client.open();
      assert.equal((await twins.get(device)).modelId, MODEL);
      const twin = new Twin(device.deviceId, registry);
      await twin.get();
      assert.equal(twin.modelId, MODEL);
    });
  }

  test('shows how it proves itself, and its status with the reason', async () => {
    const primaryThumbprint = thumbprint(createSelfSigned('twin').cert);
    const deviceId = devices.freshId();
    await registry.create({ deviceId, status: 'disabled', statusReason: 'in repair', authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } } });
    const twin = await twins.get({ deviceId });
    assert.equal(twin.authenticationType, 'selfSigned');
    assert.equal(twin.x509Thumbprint.primaryThumbprint, primaryThumbprint);
    assert.equal(twin.status, 'disabled');
    assert.equal(twin.statusReason, 'in repair');
    const authority = await devices.create({ authentication: { type: 'certificateAuthority' } });
    assert.equal((await twins.get(authority)).authenticationType, 'certificateAuthority');
  });

  test('follows the status: statusUpdateTime and deviceEtag move with it', async () => {
    const device = await devices.create();
    const before = await twins.get(device);
    assert.equal(before.statusUpdateTime, NEVER);
    const { responseBody: identity } = await registry.get(device.deviceId);
    const { responseBody: updated } = await registry.update({ ...identity, status: 'disabled' });
    const after = await twins.get(device);
    assert.equal(after.status, 'disabled');
    assert.notEqual(after.statusUpdateTime, NEVER);
    assert.equal(after.deviceEtag, updated.etag);
    assert.equal(after.etag, before.etag);
  });

  test('shows the scopes of an edge device and of its child', async () => {
    const parent = await devices.create({ capabilities: { iotEdge: true } });
    const twin = await twins.get(parent);
    assert.deepEqual(twin.capabilities, { iotEdge: true });
    assert.match(twin.deviceScope, /^ms-azure-iot-edge:\/\//);
    const child = await devices.create({ deviceScope: twin.deviceScope });
    const childTwin = await twins.get(child);
    assert.equal(childTwin.deviceScope, twin.deviceScope);
    assert.deepEqual(childTwin.parentScopes, [twin.deviceScope]);
  });

  test('whose id has every sign of the grammar is found by it', async () => {
    const deviceId = `${devices.freshId()}-:.+%_#*?!(),=@;$'`;
    await registry.create({ deviceId });
    assert.equal((await twins.patch({ deviceId }, { tags: { found: true } })).tags.found, true);
    const module = { deviceId, moduleId: "m-:.+%_#*?!(),=@;'" };
    await registry.addModule(module);
    assert.equal((await twins.patch(module, { tags: { found: true } })).moduleId, module.moduleId);
  });
});
