'use strict';

// The poll rule: over HTTPS a device asks for cloud-to-device messages at most every 25 minutes. Sooner is a violation, which the
// hub lists and answers with 429.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { Inbox, messagesOf } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { message } = service;

const [HTTPS] = speaking('http');
const POLL_INTERVAL = '25m';

const file = fileScope();
let backEnd;

before(async () => {
  await service.load();
  backEnd = await service.connect(file);
});

/** A polling device: {device, client, inbox, refusals}. The SDK reports a failed poll as an event of the transport. */
async function poller(t, ...texts) {
  const device = await devices.create();
  for (const text of texts) await backEnd.send(device.deviceId, message(text));
  const client = await devices.connect(t, HTTPS, device);
  const refusals = new Inbox('refused poll');
  client.transport.on('error', (err) => refusals.put(err));
  return { device, client, inbox: messagesOf(client), refusals, poll: () => client.transport.receive() };
}

describe('polling over HTTPS', () => {
  test('twice within 25 minutes is 429 and a violation; after 25 minutes it is neither', async (t) => {
    const { device, client, inbox, refusals, poll } = await poller(t, 'first', 'second');
    poll();
    await client.complete(await inbox.take());
    await hub.advance('24m59s');
    poll();
    const refused = await refusals.take();
    assert.equal(refused.response.statusCode, 429);
    assert.match(refused.response.headers['retry-after'], /^\d+$/);
    assert.equal(refused.response.headers['iothub-errorcode'], 'ThrottlingException');
    const listed = await hub.violations(device.deviceId);
    assert.equal(listed.length, 1);
    assert.equal(inbox.left, 0);

    await hub.advance(POLL_INTERVAL);
    poll();
    assert.equal((await inbox.take()).getData().toString(), 'second');
    assert.equal((await hub.violations(device.deviceId)).length, 1);
  });

  test('is counted for each device by itself', async (t) => {
    const pollers = [await poller(t, 'hello'), await poller(t, 'hello'), await poller(t, 'hello')];
    for (const { inbox, poll } of pollers) {
      poll();
      await inbox.take();
    }
    for (const { device } of pollers) assert.deepEqual(await hub.violations(device.deviceId), []);
  });

  test('is not what sending and settling are: those may come as often as they like', async (t) => {
    const { device, client, inbox, poll } = await poller(t, 'hello');
    poll();
    const received = await inbox.take();
    for (let i = 0; i < 5; i++) await client.sendEvent(message(String(i)));
    await client.complete(received);
    assert.deepEqual(await hub.violations(device.deviceId), []);
  });

  test('counts every request, also the one with which the SDK asks on after a message', async (t) => {
    const { device, client, inbox, refusals, poll } = await poller(t, 'first', 'second');
    await client.setTransportOptions({ manualPolling: true, drain: true }); // drain is what the SDK does when not told otherwise
    poll();
    assert.equal((await inbox.take()).getData().toString(), 'first');
    assert.equal((await refusals.take()).response.statusCode, 429);
    assert.equal((await hub.violations(device.deviceId)).length, 1);
    assert.equal(inbox.left, 0);
  });

  test('by a timer, as applications do, brings the first message at once and then only refusals', async (t) => {
    const { device, client, inbox, refusals } = await poller(t, 'first', 'second');
    await client.setTransportOptions({ interval: 0.05, drain: false });
    assert.equal((await inbox.take()).getData().toString(), 'first');
    for (const err of await refusals.takeMany(3)) assert.equal(err.response.statusCode, 429);
    assert.ok((await hub.violations(device.deviceId)).length >= 3);
    assert.equal(inbox.left, 0);
  });
});
