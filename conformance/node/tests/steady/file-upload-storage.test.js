'use strict';

// File uploads to a storage account of one's own, `--storage`: Azurite over HTTPS, at a hub that is started for it; and to a directory,
// `--data-dir`.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { before, describe, test } = require('node:test');
const { BlobServiceClient } = require('@azure/storage-blob');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const uploads = require('../../support/uploads');
const { Blobs } = require('../../support/blobs');
const { speaking } = require('../../support/doors');
const { Inbox } = require('../../support/inbox');
const { fileScope } = require('../../support/scope');
const { SecondHub } = require('../../support/second-hub');
const { upload, blobOf } = uploads;

const [HTTPS] = speaking('http');
const MB = 1024 * 1024;
// What the storage client inside of the device SDK, which is older, sends along with a block, Azurite takes in its loose mode only.
const AZURITE = { https: true, loose: true };
const CONTAINER = 'from-devices';

const file = fileScope();
let blobs;
let second;
let backEnd;
let notifications;

before(async () => {
  blobs = await Blobs.open(file, AZURITE);
  second = await SecondHub.start(file, '--storage', blobs.connectionString, '--storage-container', CONTAINER);
  backEnd = await second.connect(file);
  const { result: receiver } = await backEnd.getFileNotificationReceiver();
  notifications = new Inbox('file notification');
  receiver.on('message', (message) => notifications.put(JSON.parse(message.getData().toString())));
});

async function uploader(t) {
  const device = await second.createDevice();
  return { device, client: await devices.connect(t, HTTPS, device) };
}

const stored = (name) => blobs.containerClient(CONTAINER).getBlobClient(name).downloadToBuffer();

describe('a file goes to the storage account', () => {
  for (const [what, bytes] of [['small', Buffer.from('hello')], ['of several blocks', crypto.randomBytes(9 * MB + 1)]]) {
    test(`${what}, and its notification says where`, async (t) => {
      const { device, client } = await uploader(t);
      await upload(client, 'logs/a.bin', bytes);
      const name = `${device.deviceId}/logs/a.bin`;
      const told = await notifications.take();
      assert.equal(told.deviceId, device.deviceId);
      assert.equal(told.blobName, name);
      assert.equal(told.blobSizeInBytes, bytes.length);
      assert.equal(told.blobUri, `${blobs.containerClient(CONTAINER).url}/${name}`);
      assert.ok((await stored(name)).equals(bytes));
    });
  }

  test('by the storage SDK with the SAS that the hub gave, which opens nothing else', async (t) => {
    const { device, client } = await uploader(t);
    const begun = await client.getBlobSharedAccessSignature('mine.txt');
    assert.equal(begun.containerName, CONTAINER);
    await blobOf(begun).uploadData(Buffer.from('mine'));
    await assert.rejects(blobOf({ ...begun, blobName: `${device.deviceId}/other.txt` }).uploadData(Buffer.from('x')), { statusCode: 403 });
    await assert.rejects(blobOf(begun).delete(), { statusCode: 403 });
    await client.notifyBlobUploadStatus(begun.correlationId, true, 201, 'done');
    assert.equal((await notifications.take()).blobSizeInBytes, 4);
    assert.equal((await stored(`${device.deviceId}/mine.txt`)).toString(), 'mine');
  });

  test('or is not there, which the hub finds out', async (t) => {
    const { client } = await uploader(t);
    const { correlationId } = await client.getBlobSharedAccessSignature('missing.txt');
    await assert.rejects(client.notifyBlobUploadStatus(correlationId, true, 200, ''), { message: 'Bad Request' });
    assert.equal(notifications.left, 0);
  });
});

// What follows needs the address of the hub above.
test('a storage account that has gone is an error for the device and no end of the hub', async (t) => {
  const gone = await Blobs.open(t, AZURITE);
  await backEnd.close();
  await second.server.stop();
  second = await SecondHub.start(t, '--storage', gone.connectionString);
  const { client } = await uploader(t);
  await upload(client, 'before.txt', Buffer.from('x'));
  const begun = await client.getBlobSharedAccessSignature('after.txt');
  await gone.close();
  await assert.rejects(client.notifyBlobUploadStatus(begun.correlationId, true, 200, ''), { message: 'Bad Request' });
  await client.notifyBlobUploadStatus(begun.correlationId, false, 0, 'the storage is gone');
  await hub.until('the hub is well', async () => (await fetch(`${second.server.control}/livez`)).status === 200);
});

test('files in a directory are there when the hub starts again', async (t) => {
  await second.server.stop();
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'iolite-files-'));
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  const bytes = crypto.randomBytes(5 * MB);
  second = await SecondHub.start(t, '--data-dir', dir);
  const { device, client } = await uploader(t);
  await upload(client, 'kept.bin', bytes);
  await client.close();
  assert.equal(await second.server.stop(), null);
  second = await SecondHub.start(t, '--data-dir', dir);
  const account = BlobServiceClient.fromConnectionString(second.info.storageConnectionString);
  const blob = account.getContainerClient('uploads').getBlobClient(`${device.deviceId}/kept.bin`);
  assert.ok((await blob.downloadToBuffer()).equals(bytes));
});
