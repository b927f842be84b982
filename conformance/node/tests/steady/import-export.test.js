'use strict';

// Import and export jobs: the registry as text in a blob container and back (article "Import and export IoT Hub device identities in bulk").
// The storage is Azurite.

const assert = require('node:assert/strict');
const net = require('node:net');
const { before, describe, test } = require('node:test');
const { Blobs } = require('../../support/blobs');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const modules = require('../../support/modules');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { refusal, isRefused } = require('../../support/refusal');
const { fileScope } = require('../../support/scope');

const file = fileScope();
let registry;
let blobs;

before(async () => {
  await service.load();
  registry = service.registry();
  blobs = await Blobs.open(file);
});

const get = (jobId) => registry.getJob(jobId);

/** Waits until the job is over and answers what the hub then says of it. */
const end = ({ jobId }) => hub.until(`job ${jobId} is over`, async () => {
  const job = await get(jobId);
  return ['completed', 'failed', 'cancelled'].includes(job.status) && job;
});

const linesOf = (text) => text.split('\n').filter(Boolean).map((line) => JSON.parse(line));

async function exported(excludeKeys) {
  const container = await blobs.container();
  const job = await end(await registry.exportDevicesToBlob(container.uri, excludeKeys));
  assert.equal(job.status, 'completed', job.failureReason);
  return linesOf(await container.read('devices.txt'));
}

/** Imports the lines; answers {job, errors}. */
async function imported(...lines) {
  const [input, output] = [await blobs.container(), await blobs.container()];
  await input.write('devices.txt', lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  const job = await end(await registry.importDevicesFromBlob(input.uri, output.uri));
  return { job, errors: linesOf(await output.read('importErrors.log').catch(() => '')) };
}

/** The URI of a container whose storage takes connections and never answers. */
async function silentContainer(t) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${server.address().port}/account/container?sig=secret`;
}

describe('an export', () => {
  test('writes each device and module with keys, tags and properties, a line each', async () => {
    const device = await devices.create({ statusReason: 'exported' });
    const module = await modules.create({ deviceId: device.deviceId });
    await twins.patch(device, { tags: { place: 'roof' }, properties: { desired: { interval: 5 } } });
    const lines = await exported(false);
    const line = lines.find((l) => l.id === device.deviceId && !l.moduleId);
    assert.equal(line.status, 'enabled');
    assert.equal(line.statusReason, 'exported');
    assert.equal(line.authentication.symmetricKey.primaryKey, device.key);
    assert.deepEqual(line.tags, { place: 'roof' });
    assert.equal(line.properties.desired.interval, 5);
    assert.ok(line.eTag && line.twinETag);
    const moduleLine = lines.find((l) => l.id === device.deviceId && l.moduleId === module.moduleId);
    assert.equal(moduleLine.authentication.symmetricKey.primaryKey, module.key);
  });

  test('leaves keys out when told to', async () => {
    const device = await devices.create();
    const line = (await exported(true)).find((l) => l.id === device.deviceId);
    assert.ok(!line.authentication?.symmetricKey?.primaryKey);
    assert.ok(!JSON.stringify(line).includes(device.key));
  });

  test('into a container that is not there fails and says why, without the key to it', async () => {
    const { uri } = await blobs.container();
    const job = await end(await registry.exportDevicesToBlob(uri.replace(/\/c[0-9a-f]{12}\?/, '/nowhere?'), false));
    assert.equal(job.status, 'failed');
    assert.ok(job.failureReason);
    assert.ok(!JSON.stringify(job).includes('sig='), JSON.stringify(job));
  });
});

describe('an import', () => {
  test('creates, updates and deletes, twins with it', async () => {
    const [changed, gone] = [await devices.create(), await devices.create()];
    const fresh = devices.freshId('import');
    const { job, errors } = await imported(
      { id: fresh, importMode: 'create', status: 'disabled', statusReason: 'new', tags: { place: 'roof' }, properties: { desired: { interval: 5 } } },
      { id: changed.deviceId, importMode: 'update', status: 'disabled' },
      { id: gone.deviceId, importMode: 'delete' },
    );
    assert.equal(job.status, 'completed', job.failureReason);
    assert.deepEqual(errors, []);
    assert.equal(job.type, 'import');
    assert.equal(job.progress, 100);
    const { responseBody: created } = await registry.get(fresh);
    assert.equal(created.status, 'disabled');
    assert.equal(created.statusReason, 'new');
    const twin = await twins.get({ deviceId: fresh });
    assert.deepEqual(twin.tags, { place: 'roof' });
    assert.equal(twin.properties.desired.interval, 5);
    assert.equal((await registry.get(changed.deviceId)).responseBody.status, 'disabled');
    await assert.rejects(registry.get(gone.deviceId), refusal(404, 'DeviceNotFound'));
  });

  test('takes what an export wrote: a deleted device is there again, with its keys and twin', async () => {
    const device = await devices.create();
    await twins.patch(device, { tags: { place: 'roof' } });
    const line = (await exported(false)).find((l) => l.id === device.deviceId);
    await registry.delete(device.deviceId);
    const { job } = await imported({ ...line, importMode: 'createOrUpdate' });
    assert.equal(job.status, 'completed', job.failureReason);
    assert.equal((await registry.get(device.deviceId)).responseBody.authentication.symmetricKey.primaryKey, device.key);
    assert.deepEqual((await twins.get(device)).tags, { place: 'roof' });
  });

  test('writes down what it could not do and does the rest', async () => {
    const there = await devices.create();
    const fresh = devices.freshId('import');
    const { job, errors } = await imported({ id: there.deviceId, importMode: 'create' }, 'no JSON', { id: fresh, importMode: 'create' });
    assert.equal(job.status, 'completed', job.failureReason);
    assert.equal(errors.length, 2, JSON.stringify(errors));
    assert.ok(JSON.stringify(errors).includes(there.deviceId));
    assert.equal((await registry.get(fresh)).responseBody.deviceId, fresh);
  });

  test('from a container without devices.txt fails', async () => {
    const [input, output] = [await blobs.container(), await blobs.container()];
    const job = await end(await registry.importDevicesFromBlob(input.uri, output.uri));
    assert.equal(job.status, 'failed');
    assert.ok(job.failureReason);
  });
});

describe('import and export jobs', () => {
  test('run one at a time, are listed, and can be cancelled', async (t) => {
    const waiting = await registry.exportDevicesToBlob(await silentContainer(t), false);
    assert.equal(waiting.type, 'export');
    const { uri } = await blobs.container();
    await assert.rejects(registry.exportDevicesToBlob(uri, false), refusal(403, 'JobQuotaExceeded'));
    const { responseBody: listed } = await registry.listJobs();
    assert.ok(listed.some((job) => job.jobId === waiting.jobId));
    await registry.cancelJob(waiting.jobId);
    assert.equal((await end(waiting)).status, 'cancelled');
    assert.equal((await end(await registry.exportDevicesToBlob(uri, false))).status, 'completed');
  });

  test('that nobody began are 404', async () => {
    await assert.rejects(registry.getJob('nobody'), refusal(404, 'JobNotFound'));
    await assert.rejects(registry.cancelJob('nobody'), refusal(404, 'JobNotFound'));
  });

  test('are refused for what is no container', async () => {
    for (const uri of ['nowhere', 'ftp://host/container', 'http://']) {
      await assert.rejects(registry.exportDevicesToBlob(uri, false), refusal(400, 'BlobContainerValidationError'), uri);
    }
    isRefused(await service.rest('POST', '/jobs/create', { body: { type: 'move', outputBlobContainerUri: 'http://host/c' } }), 400, 'ArgumentInvalid');
  });

  test('that a managed identity would open are refused loudly: there is none here', async () => {
    const { uri } = await blobs.container();
    await assert.rejects(registry.exportDevicesToBlobByIdentity(uri, false), (err) => {
      assert.equal(err.response.statusCode, 501);
      assert.equal(err.response.headers['iothub-errorcode'], 'NotImplemented');
      return true;
    });
  });

  test('are for those who may read and write the registry', async () => {
    const { uri } = await blobs.container();
    for (const policy of ['service', 'device', 'registryRead']) {
      await assert.rejects(service.registry(policy).exportDevicesToBlob(uri, false), refusal(401, 'IotHubUnauthorizedAccess'), policy);
    }
  });
});
