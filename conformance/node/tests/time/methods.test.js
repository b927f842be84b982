'use strict';

// Direct methods whose time runs out, by the hub's clock.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const hub = require('../../support/hub');
const methods = require('../../support/methods');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { Inbox } = require('../../support/inbox');
const { PEERS } = require('../../support/peers');
const { refusal } = require('../../support/refusal');

before(() => service.load());

/** Whether a promise has settled yet. */
function watched(promise) {
  const state = { promise, settled: false };
  const settle = () => { state.settled = true; };
  promise.then(settle, settle);
  return state;
}

for (const peer of PEERS) {
  for (const door of speaking('mqtt', 'amqp')) {
    describe(`a method on a ${peer.kind} over ${door.name}`, () => {
      test('that is not answered within its response time-out is GatewayTimeoutError; a late answer disturbs nobody', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const calls = new Inbox('call');
        await methods.answer(client, 'late', (request, response) => { calls.put({ request, response }); });
        const call = watched(methods.invoke(identity, 'late', { payload: 1, responseTimeoutInSeconds: 60 }));
        const { response: late } = await calls.take();
        await hub.advance('59s');
        await client.sendEvent(service.message('time for an answer that would come too early'));
        assert.equal(call.settled, false);
        await hub.advance('2s');
        await assert.rejects(call.promise, refusal(504, 'GatewayTimeout', 504101));
        const next = methods.invoke(identity, 'late', { payload: 2 });
        const { request, response } = await calls.take();
        assert.equal(request.payload, 2);
        await late.send(200, 'too late');
        await response.send(200, 'in time');
        assert.equal((await next).payload, 'in time');
      });

      test('whose response time-out is not given waits 30 seconds', async (t) => {
        const identity = await peer.create();
        const client = await peer.connect(t, door, identity);
        const calls = new Inbox('call');
        await methods.answer(client, 'never', (request) => { calls.put(request); });
        const call = watched(methods.invokeRaw(identity, { methodName: 'never' }));
        await calls.take();
        await hub.advance('29s');
        await client.sendEvent(service.message('time for an answer that would come too early'));
        assert.equal(call.settled, false);
        await hub.advance('2s');
        assert.equal((await call.promise).status, 504);
      });
    });
  }

  describe(`a method on a ${peer.kind} that does not connect`, () => {
    test('within the connect time-out is 404103, and says how long it waited', async () => {
      const identity = await peer.create();
      const call = watched(methods.invoke(identity, 'any', { connectTimeoutInSeconds: 20 }));
      await hub.until('the call waits and its time runs out', async () => {
        await hub.advance('1s');
        return call.settled;
      });
      await assert.rejects(call.promise, (err) => {
        refusal(404, 'DeviceNotOnline', 404103)(err);
        const { message, info } = JSON.parse(JSON.parse(err.responseBody).Message);
        assert.equal(message, 'Timed out waiting for device to connect.');
        assert.deepEqual(info, { timeout: '00:00:20' });
        return true;
      });
    });
  });
}
