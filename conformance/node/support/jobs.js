'use strict';

// Scheduled jobs.

const devices = require('./devices');
const hub = require('./hub');
const service = require('./service');

const ENDED = ['completed', 'failed', 'cancelled'];

/** An id that no other job of this run has. */
const freshId = () => devices.freshId('job');

const get = async (jobId) => (await service.jobs().getJob(jobId)).jobStatus;

/** Waits until the job is over and answers what the hub then says of it. */
const end = (jobId) => hub.until(`job ${jobId} is over`, async () => {
  const job = await get(jobId);
  return ENDED.includes(job.status) && job;
});

const condition = (identities) => `deviceId IN [${identities.map(({ deviceId }) => `'${deviceId}'`).join(', ')}]`;

/** Schedules a twin update on some devices; answers the job as the hub took it. `start` is a Date, none for at once. */
async function updateTwins(identities, patch, { jobId = freshId(), start = null, seconds = 300 } = {}) {
  return (await service.jobs().scheduleTwinUpdate(jobId, condition(identities), { etag: '*', ...patch }, start, seconds)).jobStatus;
}

/** As updateTwins, for a direct method. */
async function callMethod(identities, method, { jobId = freshId(), start = null, seconds = 300 } = {}) {
  return (await service.jobs().scheduleDeviceMethod(jobId, condition(identities), method, start, seconds)).jobStatus;
}

/** What became of each device: by device id, the rows of devices.jobs. */
async function rows(jobId) {
  const query = service.registry().createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${jobId}'`, 100);
  const found = {};
  do {
    const { result } = await query.next(query.continuationToken);
    for (const row of result) found[row.deviceId] = row;
  } while (query.hasMoreResults);
  return found;
}

module.exports = { freshId, get, end, condition, updateTwins, callMethod, rows };
