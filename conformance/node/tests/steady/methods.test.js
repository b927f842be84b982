'use strict';

// Direct methods: called by a back end, answered by a device or module on any door that carries them. What takes time is in
// tests/time/methods.test.js.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { ModuleClient } = require('azure-iot-device');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const methods = require('../../support/methods');
const modules = require('../../support/modules');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { Inbox } = require('../../support/inbox');
const { PEERS } = require('../../support/peers');
const { refusal, isRefused } = require('../../support/refusal');

const KB = 1024;
const LIMIT = 128 * KB; // article "Understand and invoke direct methods": of a payload, each way
const WAIT = { connectTimeoutInSeconds: 30, responseTimeoutInSeconds: 30 };
const DOORS = speaking('mqtt', 'amqp');

before(() => service.load());

const PAYLOADS = {
  'an object': { a: { b: [1, 'two', null] }, 'ü €': '\u0000"\\' },
  'an empty object': {},
  'an array': [1, 'two', { three: 3 }, null],
  'a text': 'hello "world"',
  'an empty text': '',
  'a number': -12.5e-7,
  zero: 0,
  true: true,
  false: false,
  null: null,
};

const echo = ({ payload }) => ({ status: 200, payload });
const offline = refusal(404, 'DeviceNotOnline', 404103);
const left = refusal(404, 'DeviceConnectionClosedRemotely', 404104);

/** An identity of this kind, connected, that answers calls of `name` with the handler. */
async function answering(t, peer, door, name, handler) {
  const identity = await peer.create();
  const client = await peer.connect(t, door, identity);
  await methods.answer(client, name, handler);
  return { identity, client };
}

/** As answering, but it never answers: calls arrive in an inbox, with `respond` to answer them by hand. */
async function holding(t, peer, door, name) {
  const calls = new Inbox(`call of ${name}`);
  const { identity, client } = await answering(t, peer, door, name, (request, response) => { calls.put({ request, response }); });
  return { identity, client, calls };
}

for (const peer of PEERS) {
  for (const door of DOORS) {
    describe(`methods on a ${peer.kind} over ${door.name}`, () => {
      for (const [what, payload] of Object.entries(PAYLOADS)) {
        test(`carry ${what} both ways`, async (t) => {
          const seen = [];
          const { identity } = await answering(t, peer, door, 'echo', (request) => {
            seen.push(request.payload);
            return echo(request);
          });
          assert.deepEqual(await methods.invoke(identity, 'echo', { payload }), { status: 200, payload });
          assert.deepEqual(seen, [payload]);
        });
      }

      test('carry no payload at all', async (t) => {
        const seen = [];
        const { identity } = await answering(t, peer, door, 'bare', ({ payload }) => {
          seen.push(payload ?? null);
          return { status: 200 };
        });
        const { status, body } = await methods.invokeRaw(identity, { methodName: 'bare' });
        assert.equal(status, 200);
        assert.deepEqual(body, { status: 200, payload: null });
        assert.deepEqual(seen, [null]);
      });

      test('hand on whatever status the device chose', async (t) => {
        const { identity } = await answering(t, peer, door, 'status', ({ payload }) => ({ status: payload, payload }));
        for (const status of [200, 204, 400, 404, 500, 1, 123456, -1]) {
          assert.deepEqual(await methods.invoke(identity, 'status', { payload: status }), { status, payload: status });
        }
      });

      test('find the handler of their name, whatever it is made of', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const names = ['simple', 'UPPER', 'thermostat*getMaxMinReport', 'a-b_c.d:e', 'x'.repeat(100)];
        for (const name of names) await methods.answer(client, name, ({ methodName }) => ({ payload: methodName }));
        for (const name of names) assert.equal((await methods.invoke(identity, name)).payload, name);
      });

      test('are answered each by its own answer when many are under way', async (t) => {
        const count = 30;
        const { identity, calls } = await holding(t, peer, door, 'slow');
        const results = Promise.all(Array.from({ length: count }, (_, i) => methods.invoke(identity, 'slow', { payload: i })));
        for (const { request, response } of (await calls.takeMany(count)).reverse()) await response.send(200 + request.payload, `answer ${request.payload}`);
        assert.deepEqual(await results, Array.from({ length: count }, (_, i) => ({ status: 200 + i, payload: `answer ${i}` })));
      });

      test('on one that holds its answer back do not keep another waiting', async (t) => {
        const { identity: slow, calls } = await holding(t, peer, door, 'wait');
        const { identity: quick } = await answering(t, peer, door, 'wait', () => ({ payload: 'quick' }));
        const held = methods.invoke(slow, 'wait');
        const { response } = await calls.take();
        assert.equal((await methods.invoke(quick, 'wait')).payload, 'quick');
        await response.send(200, 'at last');
        assert.equal((await held).payload, 'at last');
      });

      test('carry a payload of almost 128 KB both ways', async (t) => {
        const payload = 'x'.repeat(LIMIT - KB);
        const { identity } = await answering(t, peer, door, 'echo', echo);
        assert.equal((await methods.invoke(identity, 'echo', { payload })).payload, payload);
      });

      test('with a payload of more than 128 KB are refused, and the device hears nothing of them', async (t) => {
        const { identity, calls } = await holding(t, peer, door, 'big');
        await assert.rejects(methods.invoke(identity, 'big', { payload: 'x'.repeat(LIMIT) }), refusal(413, 'MessageTooLarge'));
        const next = methods.invoke(identity, 'big', { payload: 'small' });
        const { request, response } = await calls.take();
        assert.equal(request.payload, 'small');
        await response.send(200);
        await next;
      });

      test('answered with more than 128 KB fail, and the next call works', async (t) => {
        const { identity } = await answering(t, peer, door, 'big', ({ payload }) => ({ payload: 'x'.repeat(payload) }));
        await assert.rejects(methods.invoke(identity, 'big', { payload: LIMIT }), refusal(502, 'GenericBadGateway'));
        assert.equal((await methods.invoke(identity, 'big', { payload: 3 })).payload, 'xxx');
      });

      test('reach nobody who is offline, nor who has not asked for methods, nor who takes them no more', async (t) => {
        const identity = await peer.create();
        await assert.rejects(methods.invoke(identity, 'any'), offline);
        const client = await peer.connect(t, door, identity);
        await client.sendEvent(service.message('here'));
        await assert.rejects(methods.invoke(identity, 'any'), offline);
        await methods.answer(client, 'any', () => ({ payload: 1 }));
        assert.equal((await methods.invoke(identity, 'any')).payload, 1);
        await methods.disable(client);
        await assert.rejects(methods.invoke(identity, 'any'), offline);
        await methods.enable(client);
        assert.equal((await methods.invoke(identity, 'any')).payload, 1);
        await client.close();
        await hub.until('it has gone', async () => (await hub.connections(identity.deviceId)).length === 0);
        await assert.rejects(methods.invoke(identity, 'any'), offline);
      });

      test('wait for one that connects late, and for one that subscribes late', async (t) => {
        const identity = await peer.create();
        const early = methods.invoke(identity, 'late', WAIT);
        const client = await peer.connect(t, door, identity);
        await client.sendEvent(service.message('here'));
        const second = methods.invoke(identity, 'late', WAIT);
        await methods.answer(client, 'late', () => ({ payload: 'finally' }));
        assert.equal((await early).payload, 'finally');
        assert.equal((await second).payload, 'finally');
      });

      for (const [how, leave] of Object.entries({
        'says goodbye': (client) => client.close(),
        'is cut off': (client, { deviceId }) => hub.disconnect(deviceId),
        'is deleted': (client, { deviceId }) => service.registry().delete(deviceId),
      })) {
        test(`fail at once when the other side ${how} in the middle of a call`, async (t) => {
          const { identity, client, calls } = await holding(t, peer, door, 'leave');
          const call = assert.rejects(methods.invoke(identity, 'leave', { responseTimeoutInSeconds: 300 }), left);
          await calls.take();
          await leave(client, identity);
          await call;
        });
      }

      test('go to the newer of two connections', async (t) => {
        const { identity } = await answering(t, peer, door, 'who', () => ({ payload: 'older' }));
        const newer = await peer.connect(t, door, identity);
        await methods.answer(newer, 'who', () => ({ payload: 'newer' }));
        assert.equal((await methods.invoke(identity, 'who')).payload, 'newer');
      });
    });
  }

  describe(`a method call on a ${peer.kind}`, () => {
    test('that does not exist is 404: no such device, no such module', async () => {
      const { deviceId } = await devices.create();
      const nobody = devices.freshId('nobody');
      if (peer.kind === 'device') {
        await assert.rejects(methods.invoke({ deviceId: nobody }, 'any'), refusal(404, 'DeviceNotFound'));
      } else {
        await assert.rejects(methods.invoke({ deviceId: nobody, moduleId: 'camera' }, 'any'), refusal(404, 'DeviceNotFound'));
        await assert.rejects(methods.invoke({ deviceId, moduleId: 'camera' }, 'any'), refusal(404, 'ModuleNotFound'));
      }
    });

    for (const [what, body] of Object.entries({
      'without a name': { payload: 1 },
      'with an empty name': { methodName: '' },
      'with a name that is no text': { methodName: 7 },
      'with a name of more than 128 characters': { methodName: 'x'.repeat(129) },
      'with a response time-out of less than 5 seconds': { methodName: 'm', responseTimeoutInSeconds: 4 },
      'with a response time-out of more than 300 seconds': { methodName: 'm', responseTimeoutInSeconds: 301 },
      'with a connect time-out of more than 300 seconds': { methodName: 'm', responseTimeoutInSeconds: 300, connectTimeoutInSeconds: 301 },
      'with a negative connect time-out': { methodName: 'm', connectTimeoutInSeconds: -1 },
      'with a connect time-out that is longer than the other': { methodName: 'm', responseTimeoutInSeconds: 30, connectTimeoutInSeconds: 31 },
      'with a time-out that is no number': { methodName: 'm', responseTimeoutInSeconds: 'soon' },
      'that is no JSON': '{"methodName":"m"',
      'that is no object': '["m"]',
      'that is empty': '',
    })) {
      test(`${what} is refused`, async () => {
        const answer = await methods.invokeRaw(await peer.create(), body);
        assert.equal(answer.status, 400, answer.text);
        isRefused(answer, 400, answer.headers.get('iothub-errorcode'));
        assert.match(answer.headers.get('iothub-errorcode'), /^(ArgumentInvalid|IotHubFormatError)$/);
      });
    }
  });
}

for (const door of DOORS) {
  describe(`a module over ${door.name}`, () => {
    /** The module client as IoT Edge starts it, with the hub in the gateway's place: methods go through REST with the module's token. */
    async function edgeModule(t, { deviceId, moduleId, key }) {
      process.env.EdgeHubConnectionString = `HostName=${service.host};DeviceId=${deviceId};ModuleId=${moduleId};SharedAccessKey=${key};GatewayHostName=${service.host}`;
      process.env.EdgeModuleCACertificateFile = process.env.NODE_EXTRA_CA_CERTS;
      const client = await ModuleClient.fromEnvironment(door.Transport);
      t.after(() => client.close());
      await client.open();
      return client;
    }

    const call = (payload) => ({ methodName: 'hello', payload, responseTimeoutInSeconds: 30, connectTimeoutInSeconds: 0 });

    test('calls methods of its device and of the other modules there', async (t) => {
      const device = await devices.create();
      const [caller, other] = [await modules.create({ deviceId: device.deviceId, moduleId: 'caller' }), await modules.create({ deviceId: device.deviceId, moduleId: 'other' })];
      await methods.answer(await devices.connect(t, door, device), 'hello', ({ payload }) => ({ status: 201, payload: `device heard ${payload}` }));
      await methods.answer(await modules.connect(t, door, other), 'hello', ({ payload }) => ({ status: 202, payload: `module heard ${payload}` }));
      const client = await edgeModule(t, caller);
      assert.deepEqual(await client.invokeMethod(device.deviceId, call('me')), { status: 201, payload: 'device heard me' });
      assert.deepEqual(await client.invokeMethod(device.deviceId, 'other', call('me')), { status: 202, payload: 'module heard me' });
    });

    test('does not call methods of a stranger', async (t) => {
      const stranger = await devices.create();
      await methods.answer(await devices.connect(t, door, stranger), 'hello', () => ({ payload: 'must not be called' }));
      const client = await edgeModule(t, await modules.create());
      await assert.rejects(client.invokeMethod(stranger.deviceId, call('me')), { name: 'UnauthorizedError' });
    });

    test('on a parent edge device calls methods of its children', async (t) => {
      const parent = await devices.create({ capabilities: { iotEdge: true } });
      const { responseBody: { deviceScope } } = await service.registry().get(parent.deviceId);
      const child = await devices.create({ deviceScope });
      await methods.answer(await devices.connect(t, door, child), 'hello', () => ({ payload: 'child' }));
      const client = await edgeModule(t, await modules.create({ deviceId: parent.deviceId }));
      assert.equal((await client.invokeMethod(child.deviceId, call('me'))).payload, 'child');
    });
  });
}
