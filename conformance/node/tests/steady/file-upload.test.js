'use strict';

// Files that devices upload to the hub's own storage, behind its HTTPS door, and what back ends hear of it.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const uploads = require('../../support/uploads');
const { createSigned } = require('../../support/certificates');
const { byCertificate, byToken, token } = require('../../support/credentials');
const { DOORS, speaking } = require('../../support/doors');
const { isRefused } = require('../../support/refusal');
const { fileScope } = require('../../support/scope');
const { Notifications, blobOf, upload, uriOf } = uploads;

const [HTTPS] = speaking('http');
const MB = 1024 * 1024;
const ACTIVE = 10; // uploads of one device

const file = fileScope();
let notifications;

before(async () => {
  await service.load();
  notifications = await Notifications.open(file);
});

/** A device and its client; uploads go over HTTPS whatever its door is. */
async function uploader(t, door = HTTPS) {
  const device = await devices.create();
  return { device, client: await devices.connect(t, door, device) };
}

/** For assert.rejects: a refusal of the hub with this status, this name of the error and this number. The SDK makes no class of it. */
const refusal = (status, errorCode, number) => (err) => {
  const answer = { status: err.response.statusCode, headers: { get: (name) => err.response.headers[name] }, text: err.responseBody };
  assert.equal(isRefused(answer, status, errorCode).code, number);
  return true;
};

/** For assert.rejects: a refusal of the storage. */
const storageRefusal = (statusCode, code) => (err) => {
  assert.equal(err.statusCode, statusCode, err.message);
  if (code) assert.equal(err.code ?? err.details?.errorCode, code);
  return true;
};

for (const door of DOORS) {
  test(`a device of ${door.name} uploads a file, and the back end hears of it`, async (t) => {
    const { device, client } = await uploader(t, door);
    const earliest = Math.floor((await hub.now()) / 1000) * 1000;
    const bytes = Buffer.from('what happened yesterday');
    await upload(client, 'logs/yesterday.txt', bytes);
    const [one] = await notifications.of(device);
    assert.equal(one.blobName, `${device.deviceId}/logs/yesterday.txt`);
    assert.equal(one.blobSizeInBytes, bytes.length);
    assert.ok(one.blobUri.startsWith('https://'), one.blobUri);
    assert.ok(one.blobUri.endsWith(`/${one.blobName}`), one.blobUri);
    assert.ok(!one.blobUri.includes('sig='), one.blobUri);
    assert.match(one.lastUpdatedTime, /\+00:00$/);
    assert.ok(new Date(one.lastUpdatedTime) >= earliest);
    assert.ok(new Date(one.enqueuedTimeUtc) <= await hub.now());
    assert.equal(one.message.contentType, 'application/vnd.microsoft.iothub.filenotification.json');
    assert.deepEqual(await uploads.read(client, 'logs/yesterday.txt'), bytes);
  });
}

describe('an upload', () => {
  test('of many blocks arrives whole', async (t) => {
    const { device, client } = await uploader(t);
    const bytes = crypto.randomBytes(21 * MB + 17);
    await upload(client, 'big.bin', bytes);
    assert.equal((await notifications.of(device))[0].blobSizeInBytes, bytes.length);
    assert.ok((await uploads.read(client, 'big.bin')).equals(bytes));
  });

  test('replaces the file of that name', async (t) => {
    const { device, client } = await uploader(t);
    for (const text of ['the first', 'the second, which is longer']) await upload(client, 'same.txt', Buffer.from(text));
    assert.deepEqual((await notifications.of(device, 2)).map(({ blobSizeInBytes }) => blobSizeInBytes), [9, 27]);
    assert.equal((await uploads.read(client, 'same.txt')).toString(), 'the second, which is longer');
  });

  test('of many files at once arrives file by file', async (t) => {
    const { device, client } = await uploader(t);
    const names = Array.from({ length: ACTIVE }, (_, i) => `part-${i}.txt`);
    await Promise.all(names.map((name) => upload(client, name, Buffer.from(name))));
    const told = await notifications.of(device, names.length);
    assert.deepEqual(told.map(({ blobName }) => blobName).sort(), names.map((name) => `${device.deviceId}/${name}`));
    assert.equal((await uploads.read(client, 'part-7.txt')).toString(), 'part-7.txt');
  });

  test('by a device with a certificate', async (t) => {
    const deviceId = devices.freshId();
    const authority = JSON.parse(require('node:fs').readFileSync(process.env.IOLITE_DEVICE_CA, 'utf8'));
    await service.registry().create({ deviceId, authentication: { type: 'certificateAuthority' } });
    const device = { host: service.host, deviceId };
    const client = devices.client(t, HTTPS, device, byCertificate(device, createSigned(deviceId, authority)));
    await upload(client, 'a.txt', Buffer.from('signed'));
    assert.equal((await notifications.of(device)).length, 1);
  });

  for (const name of ['a b/c+d & e.txt', '100%.txt', "it's (one).txt"]) {
    test(`of a file that is called ${name}, with the storage SDK`, async (t) => {
      const { device, client } = await uploader(t);
      const begun = await client.getBlobSharedAccessSignature(name);
      assert.equal(begun.blobName, `${device.deviceId}/${name}`);
      await blobOf(begun).uploadData(Buffer.from(name));
      await client.notifyBlobUploadStatus(begun.correlationId, true, 201, 'done');
      assert.equal((await notifications.of(device))[0].blobName, `${device.deviceId}/${name}`);
      assert.equal((await uploads.read(client, name)).toString(), name);
    });
  }

  test('that failed is told to nobody, and ends', async (t) => {
    const { device, client } = await uploader(t);
    const begun = await client.getBlobSharedAccessSignature('lost.txt');
    await client.notifyBlobUploadStatus(begun.correlationId, false, 500, 'the disk was full');
    await assert.rejects(client.notifyBlobUploadStatus(begun.correlationId, true, 200, 'after all'));
    await upload(client, 'found.txt', Buffer.from('found'));
    assert.deepEqual((await notifications.of(device)).map(({ blobName }) => blobName), [`${device.deviceId}/found.txt`]);
  });
});

describe('the hub refuses', () => {
  test('to say that a file is there that is not', async (t) => {
    const { device, client } = await uploader(t);
    const begun = await client.getBlobSharedAccessSignature('missing.txt');
    await assert.rejects(client.notifyBlobUploadStatus(begun.correlationId, true, 200, 'done'), { message: 'Bad Request' });
    const answer = await uploads.complete(device, { correlationId: begun.correlationId, isSuccess: true, statusCode: 200 });
    assert.equal(isRefused(answer, 400, 'InvalidStorageEndpointOrBlob').code, 400020);
    await blobOf(begun).uploadData(Buffer.from('there'));
    await client.notifyBlobUploadStatus(begun.correlationId, true, 200, 'done');
    assert.equal((await notifications.of(device)).length, 1);
  });

  test('to end an upload twice, one that never began, and that of another device', async (t) => {
    const [{ device, client }, other] = [await uploader(t), await uploader(t)];
    const { correlationId } = await client.getBlobSharedAccessSignature('a.txt');
    const end = (who, body) => uploads.complete(who, { isSuccess: false, statusCode: 0, ...body });
    for (const body of [{ correlationId: 'no-such-upload' }, {}]) {
      assert.equal(isRefused(await end(device, body), 400, 'InvalidFileUploadCorrelationId').code, 400015);
    }
    isRefused(await end(other.device, { correlationId }), 400, 'InvalidFileUploadCorrelationId');
    const vague = await uploads.complete(device, { correlationId, statusCode: 200 });
    assert.equal(isRefused(vague, 400, 'InvalidFileUploadCompletionStatus').code, 400019);
    await client.notifyBlobUploadStatus(correlationId, false, 0, '');
    isRefused(await end(device, { correlationId }), 400, 'InvalidFileUploadCorrelationId');
    await assert.rejects(client.notifyBlobUploadStatus(correlationId, false, 0, ''), { message: 'Bad Request' });
  });

  test(`an upload more than ${ACTIVE} at a time, until one of them ends`, async (t) => {
    const { client } = await uploader(t);
    const begun = [];
    for (let i = 0; i < ACTIVE; i++) begun.push(await client.getBlobSharedAccessSignature(`${i}.txt`));
    await assert.rejects(client.getBlobSharedAccessSignature('10.txt'), refusal(403, 'DeviceMaximumActiveFileUploadLimitExceeded', 403006));
    await assert.rejects(upload(client, '10.txt', Buffer.from('x')), { name: 'BlobSasError' });
    const { client: neighbour } = await uploader(t);
    await neighbour.getBlobSharedAccessSignature('0.txt');
    await client.notifyBlobUploadStatus(begun[3].correlationId, false, 0, '');
    await client.getBlobSharedAccessSignature('10.txt');
  });

  test('names that no blob can have', async (t) => {
    const { client } = await uploader(t);
    for (const name of ['x'.repeat(1024), '../up.txt', 'a/./b', 'a\u0007b']) {
      await assert.rejects(client.getBlobSharedAccessSignature(name), refusal(400, 'ArgumentInvalid', 400004), name.slice(0, 20));
    }
  });

  test('whom it does not know', async (t) => {
    const device = await devices.create();
    const wrong = byToken(device, token(`${service.host}/devices/${device.deviceId}`, crypto.randomBytes(32).toString('base64')));
    await assert.rejects(devices.client(t, HTTPS, device, wrong).getBlobSharedAccessSignature('a.txt'), refusal(401, 'IotHubUnauthorizedAccess'));
    const neighbour = await devices.create();
    const foreign = byToken({ ...neighbour }, token(`${service.host}/devices/${device.deviceId}`, device.key));
    await assert.rejects(devices.client(t, HTTPS, neighbour, foreign).getBlobSharedAccessSignature('a.txt'), refusal(401, 'IotHubUnauthorizedAccess'));
  });
});

describe('the storage', () => {
  test('takes blocks in any order and commits them in the order of the list', async (t) => {
    const { client } = await uploader(t);
    const blob = blobOf(await client.getBlobSharedAccessSignature('blocks.txt'));
    const id = (n) => Buffer.from(`block-${n}`).toString('base64');
    for (const n of [3, 1, 2]) await blob.stageBlock(id(n), `${n}${n}`, 2);
    assert.deepEqual((await blob.getBlockList('uncommitted')).uncommittedBlocks.length, 3);
    await blob.commitBlockList([id(2), id(1), id(3), id(1)]);
    assert.equal((await blob.downloadToBuffer()).toString(), '22113311');
    assert.equal((await blob.downloadToBuffer(2, 3)).toString(), '113');
    const properties = await blob.getProperties();
    assert.equal(properties.contentLength, 8);
    assert.equal(properties.blobType, 'BlockBlob');
  });

  test('refuses a list with a block that nobody sent, and keeps what was there', async (t) => {
    const { client } = await uploader(t);
    const blob = blobOf(await client.getBlobSharedAccessSignature('blocks.txt'));
    await blob.uploadData(Buffer.from('before'));
    await assert.rejects(blob.commitBlockList([Buffer.from('nobody').toString('base64')]), storageRefusal(400, 'InvalidBlockList'));
    assert.equal((await blob.downloadToBuffer()).toString(), 'before');
  });

  test('refuses bytes that are not those of their checksum', async (t) => {
    const { client } = await uploader(t);
    const blob = blobOf(await client.getBlobSharedAccessSignature('checked.txt'));
    const wrong = crypto.createHash('md5').update('other bytes').digest();
    await assert.rejects(blob.stageBlock(Buffer.from('a').toString('base64'), 'bytes', 5, { transactionalContentMD5: wrong }), storageRefusal(400, 'Md5Mismatch'));
    const right = crypto.createHash('md5').update('bytes').digest();
    await blob.stageBlock(Buffer.from('a').toString('base64'), 'bytes', 5, { transactionalContentMD5: right });
  });

  test('keeps what the uploader says of the file', async (t) => {
    const { client } = await uploader(t);
    const blob = blobOf(await client.getBlobSharedAccessSignature('described.json'));
    await blob.uploadData(Buffer.from('{}'), { blobHTTPHeaders: { blobContentType: 'application/json' }, metadata: { run: '7' } });
    const { contentType, metadata } = await blob.getProperties();
    assert.equal(contentType, 'application/json');
    assert.deepEqual(metadata, { run: '7' });
  });

  test('gives a SAS that opens its own file only, and only to read and write', async (t) => {
    const { client } = await uploader(t);
    const [mine, other] = [await client.getBlobSharedAccessSignature('mine.txt'), await client.getBlobSharedAccessSignature('other.txt')];
    const blob = blobOf(mine);
    await blob.uploadData(Buffer.from('mine'));
    await assert.rejects(blobOf({ ...other, sasToken: mine.sasToken }).uploadData(Buffer.from('x')), storageRefusal(403, 'AuthenticationFailed'));
    await assert.rejects(blob.delete(), storageRefusal(403));
    const list = await fetch(`https://${mine.hostName}/${mine.containerName}${mine.sasToken}&restype=container&comp=list`);
    assert.equal(list.status, 403);
    assert.equal((await blob.downloadToBuffer()).toString(), 'mine');
  });

  const spoiled = {
    'without a SAS': ({ sasToken, ...begun }) => ({ ...begun, sasToken: '' }),
    'with a SAS whose signature is wrong': (begun) => ({ ...begun, sasToken: begun.sasToken.replace(/sig=[^&]+/, `sig=${encodeURIComponent(crypto.randomBytes(32).toString('base64'))}`) }),
    'with a SAS that was made to last longer': (begun) => ({ ...begun, sasToken: begun.sasToken.replace(/se=\d{4}/, 'se=2099') }),
    'with a SAS that was made to permit more': (begun) => ({ ...begun, sasToken: begun.sasToken.replace(/sp=[a-z]+/, 'sp=rwdl') }),
  };
  for (const [what, spoil] of Object.entries(spoiled)) {
    test(`refuses requests ${what}`, async (t) => {
      const { client } = await uploader(t);
      const begun = await client.getBlobSharedAccessSignature('a.txt');
      await blobOf(begun).uploadData(Buffer.from('a'));
      const response = await fetch(uriOf(spoil(begun)), { headers: { 'x-ms-version': '2020-10-02' } });
      assert.ok([401, 403, 404].includes(response.status), `${response.status}`);
      assert.ok(!(await response.text()).includes(begun.sasToken.slice(-20)));
    });
  }
});
