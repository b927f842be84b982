'use strict';

// What became of a cloud-to-device message, told to the back end that asked.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { before, describe, test } = require('node:test');
const amqp = require('../../support/amqp');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { Feedback } = require('../../support/feedback');
const { speaking } = require('../../support/doors');
const { Inbox, messagesOf } = require('../../support/inbox');
const { isRefused } = require('../../support/refusal');
const { queue } = require('../../support/servicebound');
const { message } = service;

const [AMQP] = speaking('amqp');
const MAX_DELIVERIES = 10;

before(() => service.load());

/** Sends a message that asks for `ack`; answers its id. */
async function send(backEnd, device, ack, fields = {}) {
  const messageId = randomUUID();
  await backEnd.send(device.deviceId, message('hello', { messageId, ack, ...fields }));
  return messageId;
}

/** A device that answers every message the way the message's `answer` property says. */
async function obedientDevice(t, door = AMQP) {
  const device = await devices.create();
  const client = await devices.connect(t, door, device);
  client.on('message', (received) => client[received.properties.getValue('answer')](received));
  return device;
}

for (const { name, Transport } of service.TRANSPORTS) {
  describe(`feedback over ${name}`, () => {
    test('comes for the outcomes that were asked for, and for no other', async (t) => {
      const feedback = await Feedback.open(t, { Transport });
      const backEnd = await service.connect(t, { Transport });
      const device = await obedientDevice(t);
      const ask = (ack, answer) => send(backEnd, device, ack, { properties: { answer } });
      const wanted = [
        [await ask('full', 'complete'), 'Success'],
        [await ask('positive', 'complete'), 'Success'],
        [await ask('full', 'reject'), 'Rejected'],
        [await ask('negative', 'reject'), 'Rejected'],
      ];
      const unwanted = [
        await ask('positive', 'reject'), await ask('negative', 'complete'), await ask('none', 'complete'),
        await ask('none', 'reject'), await ask(undefined, 'complete'),
      ];
      const last = await ask('full', 'complete');
      for (const [messageId, statusCode] of wanted) assert.equal((await feedback.of(messageId)).statusCode, statusCode);
      await feedback.of(last);
      for (const [messageId] of wanted) assert.equal(feedback.about(messageId).length, 1);
      for (const messageId of unwanted) assert.deepEqual(feedback.about(messageId), []);
    });

    test('names the message, the device and the moment', async (t) => {
      const feedback = await Feedback.open(t, { Transport });
      const backEnd = await service.connect(t, { Transport });
      const device = await obedientDevice(t);
      const earliest = await hub.now();
      const record = await feedback.of(await send(backEnd, device, 'full', { properties: { answer: 'complete' } }));
      assert.equal(record.deviceId, device.deviceId);
      assert.equal(record.deviceGenerationId, device.generationId);
      assert.equal(record.description, 'Success');
      assert.match(record.enqueuedTimeUtc, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$/);
      assert.ok(new Date(record.enqueuedTimeUtc) >= earliest);
      assert.ok(new Date(record.enqueuedTimeUtc) <= await hub.now());
    });
  });
}

describe('the outcome', () => {
  for (const door of speaking('mqtt')) {
    test(`of a message that ${door.name} acknowledged is Success`, async (t) => {
      const feedback = await Feedback.open(t);
      const device = await devices.create();
      messagesOf(await devices.connect(t, door, device));
      const record = await feedback.of(await send(await service.connect(t), device, 'full'));
      assert.equal(record.statusCode, 'Success');
      assert.equal(record.deviceId, device.deviceId);
    });
  }

  for (const door of speaking('http')) {
    for (const [answer, statusCode] of [['complete', 'Success'], ['reject', 'Rejected']]) {
      test(`of a message that ${door.name} answered with ${answer} is ${statusCode}`, async (t) => {
        const feedback = await Feedback.open(t);
        const device = await devices.create();
        const messageId = await send(await service.connect(t), device, 'full');
        const client = await devices.connect(t, door, device);
        const inbox = messagesOf(client);
        client.transport.receive();
        await client[answer](await inbox.take());
        assert.equal((await feedback.of(messageId)).statusCode, statusCode);
      });
    }
  }

  test('of a purged message is Purged', async (t) => {
    const feedback = await Feedback.open(t);
    const device = await devices.create();
    const messageId = await send(await service.connect(t), device, 'full');
    await service.purge(device.deviceId);
    assert.equal((await feedback.of(messageId)).statusCode, 'Purged');
  });

  test('of a message nobody took in time is Expired: its own time, or the hour that is the rule', async (t) => {
    const feedback = await Feedback.open(t);
    const backEnd = await service.connect(t);
    const device = await devices.create();
    const short = await send(backEnd, device, 'negative', { expiryTimeUtc: (await hub.now()).getTime() + 30_000 });
    const ordinary = await send(backEnd, device, 'negative');
    await hub.advance('31s');
    assert.equal((await feedback.of(short)).statusCode, 'Expired');
    assert.deepEqual(feedback.about(ordinary), []);
    assert.equal(await service.queued(device.deviceId), 1);
    await hub.advance('1h');
    assert.equal((await feedback.of(ordinary)).statusCode, 'Expired');
    assert.equal(await service.queued(device.deviceId), 0);
  });

  test('of a message abandoned ten times is DeliveryCountExceeded', async (t) => {
    const feedback = await Feedback.open(t);
    const device = await devices.create();
    const messageId = await send(await service.connect(t), device, 'full');
    const client = await devices.connect(t, AMQP, device);
    let deliveries = 0;
    client.on('message', (received) => {
      deliveries++;
      client.abandon(received);
    });
    assert.equal((await feedback.of(messageId)).statusCode, 'DeliveryCountExceeded');
    assert.equal(deliveries, MAX_DELIVERIES);
    assert.equal(await service.queued(device.deviceId), 0);
  });
});

describe('a feedback batch', () => {
  test('is a JSON array with a content type of its own', async (t) => {
    const backEnd = await service.connect(t);
    const { result: receiver } = await backEnd.getFeedbackReceiver();
    const batches = new Inbox('feedback batch');
    receiver.on('message', (batch) => batches.put(batch));
    const messageId = await send(backEnd, await obedientDevice(t), 'full', { properties: { answer: 'complete' } });
    const batch = await batches.take();
    assert.equal(batch.contentType, 'application/vnd.microsoft.iothub.feedback.json');
    assert.ok(new Date(batch.transportObj.message_annotations['iothub-enqueuedtime']) <= await hub.now());
    assert.equal(JSON.parse(batch.getData().toString())[0].originalMessageId, messageId);
  });

  test('has up to 64 records', async (t) => {
    await drain(t);
    const backEnd = await service.connect(t);
    const targets = [await devices.create(), await devices.create()];
    const sent = [];
    for (const device of targets) {
      for (let i = 0; i < 35; i++) sent.push(await send(backEnd, device, 'full'));
      await service.purge(device.deviceId);
    }
    const { result: receiver } = await backEnd.getFeedbackReceiver();
    const batches = new Inbox('feedback batch');
    receiver.on('message', (batch) => batches.put(JSON.parse(batch.getData().toString())));
    const [first, second] = await batches.takeMany(2);
    assert.equal(first.length, 64);
    assert.deepEqual([...first, ...second].map((record) => record.originalMessageId), sent);
  });

  test('waits for a back end that is away', async (t) => {
    const device = await obedientDevice(t);
    const messageId = await send(await service.connect(t), device, 'full', { properties: { answer: 'complete' } });
    await hub.until('the device has answered', async () => (await service.queued(device.deviceId)) === 0);
    const feedback = await Feedback.open(t);
    assert.equal((await feedback.of(messageId)).statusCode, 'Success');
  });
});

// The SDK's service client accepts every message by itself, so that abandoning or rejecting one changes nothing. Others do not.
describe('a feedback batch that was not completed', () => {
  const ADDRESS = '/messages/serviceBound/feedback';

  /** A receiver, and the Inbox of what it gets, which may be shared. */
  async function open(t, shared) {
    const { host, policies: { service: { primaryKey: key } } } = service;
    const connection = await amqp.connect({ host, policy: 'service', key }, 'messages/servicebound/feedback');
    t.after(() => connection.close());
    return { connection, inbox: await amqp.receive(connection, ADDRESS, shared) };
  }

  /** Has something to report; answers the id of the message that it is about. */
  async function something(t) {
    await drain(t);
    const device = await devices.create();
    const messageId = await send(await service.connect(t), device, 'full');
    await service.purge(device.deviceId);
    return messageId;
  }

  const about = ({ message: { body } }) => JSON.parse(body.content.toString())[0].originalMessageId;

  const ways = {
    'but released comes again at once': ({ delivery }) => delivery.release(),
    'but abandoned comes again at once': ({ delivery }) => delivery.release({ delivery_failed: true }),
  };
  for (const [what, settle] of Object.entries(ways)) {
    test(what, async (t) => {
      const messageId = await something(t);
      const { inbox } = await open(t);
      const first = await inbox.take();
      assert.equal(about(first), messageId);
      settle(first);
      const second = await inbox.take();
      assert.equal(about(second), messageId);
      second.delivery.accept();
    });
  }

  test('and held comes again after a minute, to whoever is there', async (t) => {
    const messageId = await something(t);
    const { inbox } = await open(t);
    await open(t, inbox);
    assert.equal(about(await inbox.take()), messageId);
    await hub.advance('61s');
    const second = await inbox.take();
    assert.equal(about(second), messageId);
    second.delivery.accept();
  });

  test('comes to another receiver when its own is gone', async (t) => {
    const messageId = await something(t);
    const holder = await open(t);
    assert.equal(about(await holder.inbox.take()), messageId);
    const feedback = await Feedback.open(t);
    await holder.connection.close();
    assert.equal((await feedback.of(messageId)).statusCode, 'Purged');
  });
});

describe('feedback over REST', () => {
  test('is locked until it is completed, or abandoned and locked again', async (t) => {
    await drain(t);
    const device = await devices.create();
    const messageId = await send(await service.connect(t), device, 'full');
    await service.purge(device.deviceId);
    const rest = queue('feedback');
    const first = await rest.get();
    assert.equal(first.status, 200);
    assert.equal(first.contentType, 'application/vnd.microsoft.iothub.feedback.json');
    assert.deepEqual(first.body.map(({ originalMessageId, statusCode }) => [originalMessageId, statusCode]), [[messageId, 'Purged']]);
    assert.equal((await rest.get()).status, 204);
    assert.equal((await rest.abandon(first.lock)).status, 204);
    const second = await rest.get();
    assert.equal(second.body[0].originalMessageId, messageId);
    isRefused(await rest.complete(first.lock), 412, 'DeviceMessageLockLost');
    await hub.advance('61s');
    isRefused(await rest.complete(second.lock), 412, 'DeviceMessageLockLost');
    const third = await rest.get();
    assert.equal((await rest.complete(third.lock)).status, 204);
    assert.equal((await rest.get()).status, 204);
  });
});

/** Leaves no feedback of other tests behind. */
async function drain(t) {
  const device = await devices.create();
  const backEnd = await service.connect(t);
  const feedback = await Feedback.open(t);
  const last = await send(backEnd, device, 'full');
  await service.purge(device.deviceId);
  await feedback.of(last);
  await feedback.close();
}
