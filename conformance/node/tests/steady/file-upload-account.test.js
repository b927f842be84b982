'use strict';

// The storage account behind the HTTPS door that file uploads go to: a file of 250 MB, and what back ends do with the account.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { before, describe, test } = require('node:test');
const { BlobCheckpointStore } = require('@azure/eventhubs-checkpointstore-blob');
const { BlobServiceClient } = require('@azure/storage-blob');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { speaking } = require('../../support/doors');
const { Notifications, blobOf } = require('../../support/uploads');

const [HTTPS] = speaking('http');
const MIB = 1 << 20;

/** A stream of so many MiB that differ, and in the end their MD5. */
function content(mib) {
  const digest = crypto.createHash('md5');
  const part = crypto.randomBytes(MIB);
  const stream = Readable.from((function* parts() {
    for (let i = 0; i < mib; i++) {
      part.writeUInt32BE(i);
      const copy = Buffer.from(part);
      digest.update(copy);
      yield copy;
    }
  })(), { objectMode: false, highWaterMark: MIB });
  return { stream, md5: () => digest.digest('base64') };
}

async function md5Of(client) {
  const digest = crypto.createHash('md5');
  await pipeline((await client.download()).readableStreamBody, digest);
  return digest.digest('base64');
}

describe('the storage behind the HTTPS door', () => {
  let info;
  before(async () => {
    await service.load();
    info = await hub.info();
  });

  test('takes 250 MB in blocks with the SAS of a device, and gives them back', async (t) => {
    const device = await devices.create();
    const client = await devices.connect(t, HTTPS, device);
    const notifications = await Notifications.open(t);
    const target = await client.getBlobSharedAccessSignature('large/250.bin');
    const blob = blobOf(target);
    const sent = content(250);
    await blob.uploadStream(sent.stream, 4 * MIB, 20); // as the device SDK does
    await client.notifyBlobUploadStatus(target.correlationId, true, 200, 'done');
    const [notification] = await notifications.of(device);
    assert.equal(notification.blobName, `${device.deviceId}/large/250.bin`);
    assert.equal(notification.blobSizeInBytes, 250 * MIB);
    assert.equal(notification.blobUri, `https://${info.hostname}/uploads/${device.deviceId}/large/250.bin`);
    const { committedBlocks, uncommittedBlocks } = await blob.getBlockList('all');
    assert.deepEqual([committedBlocks.length, uncommittedBlocks ?? []], [63, []]);
    assert.equal(await md5Of(blob), sent.md5());
    await assert.rejects(blob.delete(), { code: 'AuthorizationPermissionMismatch' });
  });

  test('is an account for back ends, with containers, lists and conditions', async () => {
    const account = BlobServiceClient.fromConnectionString(info.storageConnectionString);
    const container = account.getContainerClient('of-a-back-end');
    await container.create({ metadata: { purpose: 'test' } });
    await assert.rejects(container.create(), { code: 'ContainerAlreadyExists' });
    for (const name of ['a/1', 'a/2', 'b ü%']) await container.getBlockBlobClient(name).upload(name, Buffer.byteLength(name), { metadata: { name: 'x' } });
    const listed = [];
    for await (const blob of container.listBlobsFlat({ prefix: 'a/', includeMetadata: true })) listed.push([blob.name, blob.properties.contentLength, blob.metadata]);
    assert.deepEqual(listed, [['a/1', 3, { name: 'x' }], ['a/2', 3, { name: 'x' }]]);
    const rolled = [];
    for await (const item of container.listBlobsByHierarchy('/')) rolled.push([item.kind, item.name]);
    assert.deepEqual(rolled.sort(), [['blob', 'b ü%'], ['prefix', 'a/']]);
    const containers = [];
    for await (const { name } of account.listContainers({ prefix: 'of-a-' })) containers.push(name);
    assert.deepEqual(containers, ['of-a-back-end']);
    const blob = container.getBlockBlobClient('b ü%');
    await blob.setMetadata({ changed: 'yes' });
    await blob.setHTTPHeaders({ blobContentType: 'text/plain' });
    const properties = await blob.getProperties();
    assert.deepEqual([properties.metadata, properties.contentType], [{ changed: 'yes' }, 'text/plain']);
    assert.equal((await blob.downloadToBuffer(2, 2)).toString(), 'ü');
    await assert.rejects(blob.upload('x', 1, { conditions: { ifNoneMatch: '*' } }), { code: 'BlobAlreadyExists' });
    await assert.rejects(blob.stageBlock('AAAA', 'x', 1, { transactionalContentMD5: Buffer.alloc(16) }), { code: 'Md5Mismatch' });
    await assert.rejects(blob.commitBlockList(['AAAA']), { code: 'InvalidBlockList' });
    await blob.delete();
    assert.equal(await blob.exists(), false);
    await container.delete();
    assert.equal(await container.exists(), false);
  });

  test('keeps the checkpoints of event processors', async () => {
    const container = BlobServiceClient.fromConnectionString(info.storageConnectionString).getContainerClient('checkpoints');
    await container.create();
    const store = new BlobCheckpointStore(container);
    const place = { fullyQualifiedNamespace: info.hostname, eventHubName: 'iolite', consumerGroup: '$Default', partitionId: '0' };
    const [mine] = await store.claimOwnership([{ ...place, ownerId: 'first' }]);
    assert.equal(mine.ownerId, 'first');
    const [theirs] = await store.claimOwnership([{ ...mine, ownerId: 'second' }]);
    assert.equal(theirs.ownerId, 'second');
    assert.deepEqual(await store.claimOwnership([{ ...mine, ownerId: 'first' }]), [], 'the etag of before opens nothing');
    await store.updateCheckpoint({ ...place, sequenceNumber: 7, offset: '512' });
    await store.updateCheckpoint({ ...place, sequenceNumber: 8, offset: '640' });
    const checkpoints = await store.listCheckpoints(info.hostname, 'iolite', '$Default');
    assert.deepEqual(checkpoints.map(({ partitionId, sequenceNumber }) => [partitionId, sequenceNumber]), [['0', 8]]);
    assert.deepEqual((await store.listOwnership(info.hostname, 'iolite', '$Default')).map(({ ownerId }) => ownerId), ['second']);
    await container.delete();
  });
});
