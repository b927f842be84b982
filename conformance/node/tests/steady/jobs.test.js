'use strict';

// Scheduled jobs that begin at once, and what is kept of them. Those that begin later are in tests/time/jobs.test.js.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const jobs = require('../../support/jobs');
const methods = require('../../support/methods');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { speaking } = require('../../support/doors');
const { refusal, isRefused } = require('../../support/refusal');

const DOORS = speaking('mqtt', 'amqp');
const HOUR_MS = 3_600_000;
const MOST_ACTIVE = 10; // article "IoT Hub quotas and throttling", tier S3

let client;

before(async () => {
  await service.load();
  client = service.jobs();
});

const fleet = (count) => Promise.all(Array.from({ length: count }, () => devices.create()));
const later = async (ms) => new Date((await hub.now()).getTime() + ms);
const put = (jobId, job) => service.rest('PUT', `/jobs/v2/${jobId}`, { body: { jobId, ...job } });

/** A device on `door` that answers calls of 'work' with the handler. */
async function worker(t, door, handler) {
  const device = await devices.create();
  await methods.answer(await devices.connect(t, door, device), 'work', handler);
  return device;
}

/** All pages of a query over jobs. */
async function all(query) {
  const found = [];
  let pages = 0;
  do {
    const { result, message } = await query.next(query.continuationToken);
    assert.equal(message.headers['x-ms-item-type'], 'JobResponse');
    found.push(...result);
    pages++;
  } while (query.hasMoreResults);
  return { found, pages };
}

describe('a twin job', () => {
  test('updates every device that its condition names, and no other', async () => {
    const [one, two, bystander] = await fleet(3);
    const taken = await jobs.updateTwins([one, two], { tags: { place: 'roof' }, properties: { desired: { interval: 7 } } });
    assert.equal(taken.type, 'scheduleUpdateTwin');
    assert.match(taken.status, /^(enqueued|queued|scheduled|running|completed)$/);
    assert.equal(taken.queryCondition, jobs.condition([one, two]));
    const job = await jobs.end(taken.jobId);
    assert.equal(job.status, 'completed');
    assert.equal(job.maxExecutionTimeInSeconds, 300);
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 0, succeededCount: 2, runningCount: 0, pendingCount: 0 });
    for (const time of [job.createdTime, job.startTime, job.endTime]) assert.ok(!Number.isNaN(Date.parse(time)), time);
    for (const device of [one, two]) {
      const twin = await twins.get(device);
      assert.deepEqual(twin.tags, { place: 'roof' });
      assert.equal(twin.properties.desired.interval, 7);
    }
    assert.deepEqual((await twins.get(bystander)).tags, {});
    const rows = await jobs.rows(taken.jobId);
    assert.deepEqual(Object.keys(rows).sort(), [one.deviceId, two.deviceId].sort());
    for (const row of Object.values(rows)) {
      assert.equal(row.jobId, taken.jobId);
      assert.equal(row.jobType, 'scheduleUpdateTwin');
      assert.equal(row.status, 'completed');
      assert.ok(!Number.isNaN(Date.parse(row.endTimeUtc)));
    }
  });

  test('finds devices by their tags', async () => {
    const [one, two] = await fleet(2);
    const tag = devices.freshId('tag');
    await twins.patch(one, { tags: { tag } });
    const jobId = jobs.freshId();
    await client.scheduleTwinUpdate(jobId, `tags.tag = '${tag}'`, { etag: '*', tags: { found: true } }, null, 300);
    assert.equal((await jobs.end(jobId)).deviceJobStatistics.deviceCount, 1);
    assert.equal((await twins.get(one)).tags.found, true);
    assert.equal((await twins.get(two)).tags.found, undefined);
  });

  test('of which no time is said begins at once and may take an hour', async () => {
    const [device] = await fleet(1);
    const jobId = jobs.freshId();
    await client.scheduleTwinUpdate(jobId, jobs.condition([device]), { etag: '*', tags: { done: true } });
    const job = await jobs.end(jobId);
    assert.equal(job.status, 'completed');
    assert.equal(job.maxExecutionTimeInSeconds, 3600);
    assert.equal((await twins.get(device)).tags.done, true);
  });

  test('that finds nobody is completed', async () => {
    const { jobId } = await jobs.updateTwins([{ deviceId: 'nobody' }], { tags: { a: 1 } });
    const job = await jobs.end(jobId);
    assert.equal(job.status, 'completed');
    assert.equal(job.deviceJobStatistics.deviceCount, 0);
  });

  for (const door of DOORS) {
    test(`reaches a device that listens on ${door.name}`, async (t) => {
      const device = await devices.create();
      const changes = await twins.follow(await devices.connect(t, door, device));
      await jobs.updateTwins([device], { properties: { desired: { interval: 7 } } });
      assert.deepEqual(await changes.take(), { interval: 7, $version: 2 });
    });
  }

  test('that one twin cannot take leaves the others done', async () => {
    const [full, fine] = await fleet(2);
    const big = Object.fromEntries(Array.from({ length: 2 }, (_, i) => [`part${i}`, 'x'.repeat(4000)]));
    await twins.patch(full, { tags: big });
    const { jobId } = await jobs.updateTwins([full, fine], { tags: { more: 'x'.repeat(1000) } });
    const job = await jobs.end(jobId);
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 1, succeededCount: 1, runningCount: 0, pendingCount: 0 });
    const rows = await jobs.rows(jobId);
    assert.equal(rows[full.deviceId].status, 'failed');
    assert.ok(rows[full.deviceId].error.code);
    assert.ok(rows[full.deviceId].error.description);
    assert.equal(rows[fine.deviceId].status, 'completed');
    assert.equal((await twins.get(fine)).tags.more.length, 1000);
  });
});

describe('a method job', () => {
  for (const door of DOORS) {
    test(`calls each device on ${door.name} once, and keeps what it answered`, async (t) => {
      const calls = [];
      const answer = (status) => ({ payload }) => {
        calls.push(payload);
        return { status, payload: { heard: payload } };
      };
      const workers = [await worker(t, door, answer(200)), await worker(t, door, answer(418))];
      const taken = await jobs.callMethod(workers, { methodName: 'work', payload: { a: [1] }, responseTimeoutInSeconds: 15 });
      assert.equal(taken.type, 'scheduleDeviceMethod');
      assert.equal(taken.cloudToDeviceMethod.methodName, 'work');
      const job = await jobs.end(taken.jobId);
      assert.equal(job.deviceJobStatistics.succeededCount, 2);
      assert.deepEqual(calls, [{ a: [1] }, { a: [1] }]);
      const rows = await jobs.rows(taken.jobId);
      assert.deepEqual(rows[workers[0].deviceId].outcome, { deviceMethodResponse: { status: 200, payload: { heard: { a: [1] } } } });
      assert.equal(rows[workers[1].deviceId].outcome.deviceMethodResponse.status, 418);
      assert.equal(rows[workers[0].deviceId].jobType, 'scheduleDeviceMethod');
    });
  }

  test('on devices that are away fails for them and leaves the others done', async (t) => {
    const [door] = DOORS;
    const present = await worker(t, door, () => ({ payload: 'done' }));
    const absent = await devices.create();
    const { jobId } = await jobs.callMethod([absent, present], { methodName: 'work', responseTimeoutInSeconds: 15 });
    const job = await jobs.end(jobId);
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 1, succeededCount: 1, runningCount: 0, pendingCount: 0 });
    const rows = await jobs.rows(jobId);
    assert.equal(rows[absent.deviceId].status, 'failed');
    assert.match(String(rows[absent.deviceId].error.code), /404103|DeviceNotOnline/);
    assert.equal(rows[present.deviceId].outcome.deviceMethodResponse.payload, 'done');
  });

  test('takes whatever payload a method takes', async (t) => {
    const [door] = DOORS;
    for (const payload of [null, 'text', 7, [1, 2]]) {
      const device = await worker(t, door, (request) => ({ payload: request.payload ?? null }));
      const { jobId } = await jobs.callMethod([device], { methodName: 'work', payload });
      await jobs.end(jobId);
      assert.deepEqual((await jobs.rows(jobId))[device.deviceId].outcome.deviceMethodResponse.payload, payload);
    }
  });
});

describe('jobs', () => {
  test('that nobody scheduled are unknown, not an error', async () => {
    const { jobStatus, response } = await client.getJob('nobody');
    assert.equal(response.statusCode, 200);
    assert.equal(jobStatus.status, 'unknown');
    assert.equal(jobStatus.type, 'unknown');
  });

  test('have ids of their own', async () => {
    const [device] = await fleet(1);
    const { jobId } = await jobs.updateTwins([device], { tags: { a: 1 } });
    await jobs.end(jobId);
    await assert.rejects(jobs.updateTwins([device], { tags: { a: 2 } }, { jobId }), refusal(409, 'JobAlreadyExists'));
    assert.equal((await twins.get(device)).tags.a, 1);
  });

  test('that wait can be cancelled, and then do nothing', async () => {
    const [device] = await fleet(1);
    const { jobId, status } = await jobs.updateTwins([device], { tags: { a: 1 } }, { start: await later(HOUR_MS) });
    assert.match(status, /^(enqueued|queued|scheduled)$/);
    assert.equal((await jobs.get(jobId)).status, 'scheduled');
    const { jobStatus } = await client.cancelJob(jobId);
    assert.equal(jobStatus.jobId, jobId);
    assert.equal((await jobs.end(jobId)).status, 'cancelled');
    assert.deepEqual((await twins.get(device)).tags, {});
  });

  test('that are over cannot be cancelled', async () => {
    const [device] = await fleet(1);
    const { jobId } = await jobs.updateTwins([device], { tags: { a: 1 } });
    await jobs.end(jobId);
    await assert.rejects(client.cancelJob(jobId), refusal(405, 'OperationNotAllowedInCurrentState'));
    await assert.rejects(client.cancelJob('nobody'), refusal(404, 'JobNotFound'));
  });

  test(`are at most ${MOST_ACTIVE} at once; one that ends makes room`, async (t) => {
    const [device] = await fleet(1);
    const waiting = [];
    t.after(() => Promise.all(waiting.map((jobId) => client.cancelJob(jobId))));
    const start = await later(HOUR_MS);
    for (let i = 0; i < MOST_ACTIVE; i++) waiting.push((await jobs.updateTwins([device], { tags: { i } }, { start })).jobId);
    const oneMore = () => jobs.updateTwins([device], { tags: { more: true } });
    await assert.rejects(oneMore(), refusal(429, 'ThrottlingMaxActiveJobCountExceeded'));
    await client.cancelJob(waiting.pop());
    await jobs.end((await oneMore()).jobId);
    assert.deepEqual((await twins.get(device)).tags, { more: true });
  });

  test('are listed by type and status, page by page', async (t) => {
    const [device] = await fleet(1);
    const ended = [];
    for (let i = 0; i < 3; i++) {
      const { jobId } = await jobs.updateTwins([device], { tags: { i } });
      ended.push((await jobs.end(jobId)).jobId);
    }
    const { jobId: waiting } = await jobs.callMethod([device], { methodName: 'work' }, { start: await later(HOUR_MS) });
    t.after(() => client.cancelJob(waiting));
    const { found, pages } = await all(client.createQuery('scheduleUpdateTwin', 'completed', 2));
    assert.ok(pages >= 2);
    const ids = found.map((job) => job.jobId);
    assert.equal(new Set(ids).size, ids.length);
    for (const jobId of ended) assert.ok(ids.includes(jobId), jobId);
    assert.ok(found.every((job) => job.type === 'scheduleUpdateTwin' && job.status === 'completed'));
    const scheduled = (await all(client.createQuery('scheduleDeviceMethod', 'scheduled'))).found;
    assert.deepEqual(scheduled.map((job) => job.jobId), [waiting]);
    const everything = (await all(client.createQuery())).found.map((job) => job.jobId);
    for (const jobId of [...ended, waiting]) assert.ok(everything.includes(jobId), jobId);
  });

  test('leave rows that can be asked for by device, status and type', async () => {
    const [device] = await fleet(1);
    const { jobId } = await jobs.updateTwins([device], { tags: { a: 1 } });
    await jobs.end(jobId);
    const ask = async (condition) => {
      const { result, message } = await service.registry().createQuery(`SELECT * FROM devices.jobs WHERE ${condition}`).next();
      assert.equal(message.headers['x-ms-item-type'], 'DeviceJob');
      return result.map((row) => row.jobId);
    };
    assert.deepEqual(await ask(`devices.jobs.deviceId = '${device.deviceId}'`), [jobId]);
    assert.deepEqual(await ask(`devices.jobs.deviceId = '${device.deviceId}' AND devices.jobs.status = 'failed'`), []);
    assert.deepEqual(await ask(`devices.jobs.deviceId = '${device.deviceId}' AND devices.jobs.jobType = 'scheduleUpdateTwin'`), [jobId]);
  });

  const twinUpdate = { type: 'scheduleUpdateTwin', queryCondition: "deviceId = 'x'", updateTwin: { etag: '*', tags: { a: 1 } } };
  const method = { type: 'scheduleDeviceMethod', queryCondition: "deviceId = 'x'", cloudToDeviceMethod: { methodName: 'work' } };
  for (const [what, job] of Object.entries({
    'without an etag for the twins': { ...twinUpdate, updateTwin: { tags: { a: 1 } } },
    'without what is to be done': { ...twinUpdate, updateTwin: undefined },
    'with a twin that is none': { ...twinUpdate, updateTwin: { etag: '*', tags: { 'a.b': 1 } } },
    'without a method name': { ...method, cloudToDeviceMethod: {} },
    'with a method that waits too long': { ...method, cloudToDeviceMethod: { methodName: 'work', responseTimeoutInSeconds: 301 } },
    'of an unknown type': { ...twinUpdate, type: 'scheduleParty' },
    'with a condition that is none': { ...twinUpdate, queryCondition: 'tags.a =' },
    'without a condition': { ...twinUpdate, queryCondition: undefined },
    'that begins more than 168 hours from now': { ...twinUpdate, startTime: new Date(Date.now() + 400 * HOUR_MS).toISOString() },
    'that begins at no time': { ...twinUpdate, startTime: 'tomorrow' },
    'with a negative time for it': { ...twinUpdate, maxExecutionTimeInSeconds: -1 },
  })) {
    test(`are refused ${what}`, async () => {
      const jobId = jobs.freshId();
      isRefused(await put(jobId, job), 400, 'ArgumentInvalid');
      assert.equal((await jobs.get(jobId)).status, 'unknown');
    });
  }

  test('are refused with an id of other signs than letters, digits, hyphens and underscores, or of more than 64', async () => {
    for (const jobId of ['a.b', 'a+b', 'a%20b', 'x'.repeat(65)]) isRefused(await put(jobId, twinUpdate), 400, 'ArgumentInvalid');
  });
});
