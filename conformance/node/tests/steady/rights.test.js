'use strict';

// What each shared access policy may do, and that the SDKs hear UnauthorizedError about the rest.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { before, describe, test } = require('node:test');
const { Client, Registry } = require('azure-iothub');
const { NoRetry } = require('azure-iot-common');
const devices = require('../../support/devices');
const service = require('../../support/service');
const { token } = require('../../support/credentials');
const { consumer } = require('../../support/telemetry');
const { refusal } = require('../../support/refusal');
const { message } = service;

// article "Control access to IoT Hub": the rights of the five policies that every hub has
const POLICIES = {
  iothubowner: { read: true, write: true, serve: true },
  service: { read: false, write: false, serve: true },
  device: { read: false, write: false, serve: false },
  registryRead: { read: true, write: false, serve: false },
  registryReadWrite: { read: true, write: true, serve: false },
};
// IoT SDKs say it with the class of the error, the Event Hubs SDK with its code. When the service client fails to open, it wraps the
// UnauthorizedError that its own $cbs made in a plain Error.
const REFUSED = (err) => {
  assert.equal(err.code ?? err.amqpError?.name ?? err.name, 'UnauthorizedError', err.stack);
  return true;
};

let target;

before(async () => {
  await service.load();
  target = await devices.create();
});

async function check(allowed, action) {
  if (allowed) await action();
  else await assert.rejects(action, REFUSED);
}

for (const [policy, may] of Object.entries(POLICIES)) {
  describe(`policy ${policy}`, () => {
    test(`${may.read ? 'reads' : 'may not read'} the registry`, async () => {
      const registry = service.registry(policy);
      await check(may.read, () => registry.get(target.deviceId));
      await check(may.read, () => registry.list());
      await check(may.read, () => registry.getRegistryStatistics());
    });

    test(`${may.write ? 'writes' : 'may not write'} the registry`, async () => {
      const registry = service.registry(policy);
      const deviceId = devices.freshId();
      await check(may.write, () => registry.create({ deviceId }));
      await check(may.write, () => registry.addDevices([{ deviceId: devices.freshId() }]));
      const victim = await devices.create();
      await check(may.write, () => registry.delete(victim.deviceId));
    });

    for (const { name, Transport } of service.TRANSPORTS) {
      test(`${may.serve ? 'sends' : 'may not send'} to devices over ${name}`, async (t) => {
        await check(may.serve, async () => {
          const client = await service.connect(t, { policy, Transport });
          await client.send(target.deviceId, message('hello'));
        });
      });
    }

    test(`${may.serve ? 'empties' : 'may not empty'} a queue`, async () => {
      const response = await fetch(`https://${service.host}/devices/${target.deviceId}/commands?api-version=2021-04-12`, {
        method: 'DELETE', headers: { authorization: service.policyToken(policy) },
      });
      assert.equal(response.status, may.serve ? 200 : 401);
    });

    test(`${may.serve ? 'reads and writes' : 'may neither read nor write'} twins`, async () => {
      const registry = service.registry(policy);
      await check(may.serve, () => registry.getTwin(target.deviceId));
      await check(may.serve, () => registry.updateTwin(target.deviceId, { tags: { a: 1 } }, '*'));
      await check(may.serve, () => registry.createQuery('SELECT deviceId FROM devices', 1).next());
      const path = `/digitaltwins/${target.deviceId}`;
      assert.equal((await service.rest('GET', path, { policy })).status, may.serve ? 200 : 401);
      assert.equal((await service.rest('PATCH', path, { policy, body: [{ op: 'add', path: '/a', value: 1 }] })).status, may.serve ? 202 : 401);
    });

    test(`${may.serve ? 'calls' : 'may not call'} methods`, async () => {
      const call = () => service.methods(policy).invokeDeviceMethod(target.deviceId, { methodName: 'any' });
      await assert.rejects(call(), may.serve ? refusal(404, 'DeviceNotOnline', 404103) : REFUSED);
    });

    test(`${may.serve ? 'schedules' : 'may not schedule'} jobs`, async () => {
      const jobs = service.jobs(policy);
      const jobId = devices.freshId('job');
      const start = new Date(Date.now() + 3_600_000);
      await check(may.serve, () => jobs.scheduleTwinUpdate(jobId, "deviceId = 'nobody'", { etag: '*', tags: { a: 1 } }, start, 60));
      await check(may.serve, () => jobs.getJob(jobId));
      await check(may.serve, () => jobs.createQuery().next());
      await check(may.serve, () => jobs.cancelJob(jobId));
    });

    test(`${may.read ? 'reads' : 'may not read'} and ${may.write ? 'writes' : 'may not write'} configurations`, async () => {
      const registry = service.registry(policy);
      const { responseBody: { id } } = await service.registry().addConfiguration({ id: devices.freshId('cfg'), content: { deviceContent: { 'properties.desired.a': 1 } }, targetCondition: '' });
      const other = devices.freshId('cfg');
      await check(may.read, () => registry.getConfiguration(id));
      await check(may.read, () => registry.getConfigurations());
      await check(may.write, () => registry.addConfiguration({ id: other, content: { deviceContent: { 'properties.desired.a': 1 } }, targetCondition: '' }));
      await check(may.write, () => registry.removeConfiguration(id));
      for (const left of [id, other]) await service.registry().removeConfiguration(left).catch((err) => assert.equal(err.response.statusCode, 404));
    });

    test(`${may.serve ? 'reads' : 'may not read'} telemetry`, async (t) => {
      const { primaryKey } = service.policies[policy];
      const connectionString = service.eventHubs
        .replace(/SharedAccessKeyName=[^;]+/, `SharedAccessKeyName=${policy}`)
        .replace(/SharedAccessKey=[^;]+/, `SharedAccessKey=${primaryKey}`);
      const client = consumer(t, { connectionString });
      await check(may.serve, () => client.getEventHubProperties());
      await check(may.serve, () => firstOutcome(client));
    });
  });
}

/** Subscribes to one partition; resolves once the hub lets it read, rejects with the error otherwise. */
function firstOutcome(client) {
  return new Promise((resolve, reject) => {
    client.subscribe('0', {
      // An empty batch comes when nothing arrived within the waiting time: the link was accepted.
      processEvents: async () => resolve(),
      processError: async (err) => reject(err),
    }, { startPosition: { offset: '-1' }, maxWaitTimeInSeconds: 1 });
  });
}

describe('a service token', () => {
  const wrongKey = crypto.randomBytes(32).toString('base64');
  const bad = {
    'signed with a wrong key': () => token(service.host, wrongKey, { policy: 'iothubowner' }),
    'of a policy that does not exist': () => token(service.host, service.policies.service.primaryKey, { policy: 'nobody' }),
    'that has expired': () => service.policyToken('iothubowner', { lifetime: -3600 }),
  };
  for (const [what, make] of Object.entries(bad)) {
    test(`${what} is refused by the registry`, async () => {
      await assert.rejects(Registry.fromSharedAccessSignature(make()).get(target.deviceId), REFUSED);
    });

    for (const { name, Transport } of service.TRANSPORTS) {
      test(`${what} is refused over ${name}`, async () => {
        const client = Client.fromSharedAccessSignature(make(), Transport);
        client.setRetryPolicy(new NoRetry());
        await assert.rejects(client.open(), REFUSED);
      });
    }
  }

  test('signed with the secondary key is as good', async () => {
    const registry = Registry.fromSharedAccessSignature(token(service.host, service.policies.registryRead.secondaryKey, { policy: 'registryRead' }));
    assert.equal((await registry.get(target.deviceId)).responseBody.deviceId, target.deviceId);
  });

  test('of a device opens no twin but by its own doors', async () => {
    const narrow = token(`${service.host}/devices/${target.deviceId}`, target.key);
    for (const path of [`/twins/${target.deviceId}`, `/digitaltwins/${target.deviceId}`]) {
      const response = await fetch(`https://${service.host}${path}?api-version=2021-04-12`, { headers: { authorization: narrow } });
      assert.equal(response.status, 401, path);
    }
  });

  test('over a device alone does not open the registry', async () => {
    const narrow = token(`${service.host}/devices/${target.deviceId}`, target.key);
    const response = await fetch(`https://${service.host}/devices/${target.deviceId}?api-version=2021-04-12`, { headers: { authorization: narrow } });
    assert.equal(response.status, 401);
    assert.equal(response.headers.get('iothub-errorcode'), 'IotHubUnauthorizedAccess');
  });

  test('in a connection string opens the service client as it stands', async (t) => {
    const client = Client.fromConnectionString(service.policies.service.connectionString);
    t.after(() => client.close());
    await client.open();
    await client.send(target.deviceId, message('hello'));
  });

  test('with a wrong key is refused by the Event Hubs-compatible endpoint', async (t) => {
    const connectionString = service.eventHubs.replace(/SharedAccessKey=[^;]+/, `SharedAccessKey=${wrongKey}`);
    const client = consumer(t, { connectionString });
    await assert.rejects(client.getEventHubProperties(), REFUSED);
  });
});
