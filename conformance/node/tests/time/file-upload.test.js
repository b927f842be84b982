'use strict';

// What time does to file uploads: SAS URIs and correlation ids end, and notifications wait.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const amqp = require('../../support/amqp');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const uploads = require('../../support/uploads');
const { speaking } = require('../../support/doors');
const { isRefused } = require('../../support/refusal');
const { queue } = require('../../support/servicebound');
const { Notifications, blobOf, upload } = uploads;

const [HTTPS] = speaking('http');
const ACTIVE = 10;
const ADDRESS = '/messages/serviceBound/filenotifications';

before(() => service.load());

async function uploader(t) {
  const device = await devices.create();
  return { device, client: await devices.connect(t, HTTPS, device) };
}

/** Uploads a file of a new device; answers the device. */
async function something(t) {
  const { device, client } = await uploader(t);
  await upload(client, 'a.txt', Buffer.from('a'));
  return device;
}

/** Leaves no notification of other tests behind. */
async function drain(t) {
  const notifications = await Notifications.open(t);
  await notifications.of(await something(t));
  await notifications.close();
}

describe('after an hour', () => {
  test('a SAS URI is worth nothing', async (t) => {
    const { client } = await uploader(t);
    const begun = await client.getBlobSharedAccessSignature('late.txt');
    const blob = blobOf(begun);
    await blob.uploadData(Buffer.from('in time'));
    await hub.advance('61m');
    await assert.rejects(blob.uploadData(Buffer.from('too late')), { statusCode: 403 });
    await assert.rejects(blob.downloadToBuffer(), { statusCode: 403 });
    assert.equal((await uploads.read(client, 'late.txt')).toString(), 'in time');
  });

  test('uploads that nobody ended count no more', async (t) => {
    const { client } = await uploader(t);
    for (let i = 0; i < ACTIVE; i++) await client.getBlobSharedAccessSignature(`${i}.txt`);
    await assert.rejects(client.getBlobSharedAccessSignature('10.txt'), (err) => err.response.statusCode === 403);
    await hub.advance('61m');
    await client.getBlobSharedAccessSignature('10.txt');
  });

  test('an upload may still be completed for a few minutes, and then not', async (t) => {
    const { device, client } = await uploader(t);
    const begun = [];
    for (const name of ['a.txt', 'b.txt']) {
      begun.push(await client.getBlobSharedAccessSignature(name));
      await blobOf(begun.at(-1)).uploadData(Buffer.from(name));
    }
    await hub.advance('65m');
    await client.notifyBlobUploadStatus(begun[0].correlationId, true, 200, 'slow');
    await hub.advance('1h');
    const answer = await uploads.complete(device, { correlationId: begun[1].correlationId, isSuccess: true, statusCode: 200 });
    assert.equal(isRefused(answer, 400, 'ExpiredFileUploadCorrelationId').code, 400016);
  });
});

describe('a notification', () => {
  test('waits for a back end that is away', async (t) => {
    await drain(t);
    const device = await something(t);
    const notifications = await Notifications.open(t);
    assert.equal((await notifications.of(device)).length, 1);
  });

  test('waits no longer than an hour', async (t) => {
    await drain(t);
    const early = await something(t);
    await hub.advance('61m');
    const late = await something(t);
    const notifications = await Notifications.open(t);
    await notifications.of(late);
    assert.deepEqual(notifications.about(early), []);
  });

  test('comes over AMQP over WebSocket, too', async (t) => {
    await drain(t);
    const notifications = await Notifications.open(t, { Transport: service.TRANSPORTS[1].Transport });
    assert.equal((await notifications.of(await something(t))).length, 1);
  });

  // The SDK's service client accepts every message by itself. Others do not.
  test('that was released comes again at once; held, after a minute', async (t) => {
    await drain(t);
    const { host, policies: { service: { primaryKey: key } } } = service;
    const connection = await amqp.connect({ host, policy: 'service', key }, 'messages/servicebound/filenotifications');
    t.after(() => connection.close());
    const device = await something(t);
    const inbox = await amqp.receive(connection, ADDRESS);
    const about = ({ message: { body } }) => JSON.parse(body.content.toString()).deviceId;
    const first = await inbox.take();
    assert.equal(about(first), device.deviceId);
    first.delivery.release();
    assert.equal(about(await inbox.take()), device.deviceId);
    await hub.advance('61s');
    const third = await inbox.take();
    assert.equal(about(third), device.deviceId);
    third.delivery.accept();
  });

  test('comes over REST, locked until it is completed', async (t) => {
    await drain(t);
    const { deviceId } = await something(t);
    const rest = queue('filenotifications');
    const { status, body, contentType, lock } = await rest.get();
    assert.equal(status, 200);
    assert.equal(contentType, 'application/vnd.microsoft.iothub.filenotification.json');
    assert.equal(body.blobName, `${deviceId}/a.txt`);
    assert.equal((await rest.get()).status, 204);
    assert.equal((await rest.abandon(lock)).status, 204);
    const again = await rest.get();
    assert.equal(again.body.deviceId, deviceId);
    assert.equal((await rest.complete(again.lock)).status, 204);
    assert.equal((await rest.get()).status, 204);
  });

  test('is for those alone who may serve', async () => {
    const { host, policies: { registryRead: { primaryKey: key } } } = service;
    const connection = await amqp.connect({ host, policy: 'registryRead', key }, 'messages/servicebound/filenotifications');
    assert.equal((await amqp.refusalOf(connection, ADDRESS)).condition, 'amqp:unauthorized-access');
    await connection.close();
  });
});
