'use strict';

// Scheduled jobs by the hub's clock: those that begin later, and those that take too long.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const jobs = require('../../support/jobs');
const methods = require('../../support/methods');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { speaking } = require('../../support/doors');
const { Inbox } = require('../../support/inbox');

const [MQTT] = speaking('mqtt');
const MINUTE_MS = 60_000;

before(() => service.load());

const inMinutes = async (minutes) => new Date((await hub.now()).getTime() + minutes * MINUTE_MS);

describe('a job for later', () => {
  test('waits until its time has come, and finds the devices that there are then', async () => {
    const device = await devices.create();
    const tag = devices.freshId('tag');
    const jobId = jobs.freshId();
    const start = await inMinutes(30);
    const { jobStatus } = await service.jobs().scheduleTwinUpdate(jobId, `tags.tag = '${tag}'`, { etag: '*', tags: { done: true } }, start, 300);
    assert.equal(Date.parse(jobStatus.startTime), start.getTime());
    await hub.advance('29m');
    assert.equal((await jobs.get(jobId)).status, 'scheduled');
    await twins.patch(device, { tags: { tag } });
    await hub.advance('2m');
    assert.equal((await jobs.end(jobId)).deviceJobStatistics.succeededCount, 1);
    assert.equal((await twins.get(device)).tags.done, true);
  });

  test('calls a method when its time has come', async (t) => {
    const device = await devices.create();
    const calls = new Inbox('call');
    await methods.answer(await devices.connect(t, MQTT, device), 'work', ({ payload }) => {
      calls.put(payload);
      return { payload: 'done' };
    });
    const { jobId } = await jobs.callMethod([device], { methodName: 'work', payload: 1 }, { start: await inMinutes(30) });
    assert.equal(calls.left, 0);
    await hub.advance('31m');
    assert.equal(await calls.take(), 1);
    assert.equal((await jobs.end(jobId)).status, 'completed');
  });

  test('whose time is past begins at once', async () => {
    const device = await devices.create();
    const { jobId } = await jobs.updateTwins([device], { tags: { a: 1 } }, { start: await inMinutes(-30) });
    assert.equal((await jobs.end(jobId)).status, 'completed');
  });
});

describe('a method job', () => {
  test('on a device that does not answer fails for that one when the response time-out is over', async (t) => {
    const [silent, quick] = [await devices.create(), await devices.create()];
    const calls = new Inbox('call');
    await methods.answer(await devices.connect(t, MQTT, silent), 'work', (request) => { calls.put(request); });
    await methods.answer(await devices.connect(t, MQTT, quick), 'work', () => ({ payload: 'done' }));
    const { jobId } = await jobs.callMethod([silent, quick], { methodName: 'work', responseTimeoutInSeconds: 60 }, { seconds: 3600 });
    await calls.take();
    await hub.until('the quick one is done', async () => (await jobs.get(jobId)).deviceJobStatistics.succeededCount === 1);
    assert.equal((await jobs.get(jobId)).status, 'running');
    await hub.advance('61s');
    const job = await jobs.end(jobId);
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 1, succeededCount: 1, runningCount: 0, pendingCount: 0 });
    const rows = await jobs.rows(jobId);
    assert.equal(rows[silent.deviceId].status, 'failed');
    assert.equal(rows[quick.deviceId].status, 'completed');
  });

  test('ends when its own time is over', async (t) => {
    const silent = await devices.create();
    const calls = new Inbox('call');
    await methods.answer(await devices.connect(t, MQTT, silent), 'work', (request) => { calls.put(request); });
    const { jobId } = await jobs.callMethod([silent], { methodName: 'work', responseTimeoutInSeconds: 300 }, { seconds: 60 });
    await calls.take();
    await hub.advance('61s');
    const job = await jobs.end(jobId);
    assert.notEqual(job.status, 'completed');
    assert.equal(job.deviceJobStatistics.succeededCount, 0);
  });

  test('that runs can be cancelled', async (t) => {
    const silent = await devices.create();
    const calls = new Inbox('call');
    await methods.answer(await devices.connect(t, MQTT, silent), 'work', (request) => { calls.put(request); });
    const { jobId } = await jobs.callMethod([silent], { methodName: 'work', responseTimeoutInSeconds: 300 }, { seconds: 3600 });
    await calls.take();
    await service.jobs().cancelJob(jobId);
    assert.equal((await jobs.end(jobId)).status, 'cancelled');
  });
});
