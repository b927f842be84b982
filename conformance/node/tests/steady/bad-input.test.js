'use strict';

// What no SDK sends: requests to the service API that are wrong in themselves. Each gets its documented error, in a body that SDKs can read,
// and the hub goes on. What is wrong about one feature in particular stands with that feature's tests.

const assert = require('node:assert/strict');
const https = require('node:https');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { isRefused } = require('../../support/refusal');

const MB = 1 << 20;

let device;

before(async () => {
  await service.load();
  device = await devices.create();
});

const deep = (depth) => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth);

// Every request of the service API with a body, with a path that fits the device.
const REQUESTS = {
  'PUT of a device': () => ['PUT', `/devices/${devices.freshId()}`],
  'PUT of a module': () => ['PUT', `/devices/${device.deviceId}/modules/camera`],
  'bulk request': () => ['POST', '/devices'],
  'PATCH of a twin': () => ['PATCH', twins.path(device)],
  'PUT of a twin': () => ['PUT', twins.path(device)],
  'method call': () => ['POST', `${twins.path(device)}/methods`],
  query: () => ['POST', '/devices/query'],
  'PUT of a job': () => ['PUT', `/jobs/v2/${devices.freshId('job')}`],
  'import or export job': () => ['POST', '/jobs/create'],
  'PUT of a configuration': () => ['PUT', `/configurations/${devices.freshId('cfg')}`],
  'test of queries': () => ['POST', '/configurations/testQueries'],
  'configuration content': () => ['POST', `/devices/${device.deviceId}/applyConfigurationContent`],
  'PATCH of a digital twin': () => ['PATCH', `/digitaltwins/${device.deviceId}`],
};

const BODIES = {
  'no JSON': '{"tags":',
  'JSON and then something': '{} {}',
  'a text': '"hello"',
  'a number': '42',
  null: 'null',
  'bytes that are no UTF-8': Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
  'an end that comes too early': Buffer.from('{"a":"\ud800'),
  'a hundred thousand levels': deep(100_000),
  'a name twice': '{"tags":{"a":1,"a":2},"tags":{"a":3},"methodName":"a","methodName":"b","query":"SELECT","query":7,"id":"a","id":"b"}',
};

const LENIENT = ['a name twice', 'bytes that are no UTF-8']; // JSON says nothing definite about them

for (const [request, make] of Object.entries(REQUESTS)) {
  describe(`a ${request}`, () => {
    for (const [what, body] of Object.entries(BODIES)) {
      test(`with ${what} is refused or taken, and never a fault of the hub`, async () => {
        const [method, path] = make();
        const answer = await service.rest(method, path, { body });
        assert.ok(answer.status < 500, `${answer.status} ${answer.text}`);
        if (answer.status >= 400) isRefused(answer, answer.status, answer.headers.get('iothub-errorcode'));
        if (!LENIENT.includes(what)) assert.ok(answer.status >= 400, `${answer.status} ${answer.text}`);
      });
    }

    test('that is far too long is refused', async () => {
      const [method, path] = make();
      const answer = await service.rest(method, path, { body: `{"a":"${'x'.repeat(8 * MB)}"}` }).catch((err) => err); // the hub may hang up on the rest
      if (!(answer instanceof Error)) assert.match(String(answer.status), /^4(00|13)$/, answer.text);
      assert.equal((await twins.get(device)).deviceId, device.deviceId);
    });

    test('without a token is 401', async () => {
      const [method, path] = make();
      const response = await fetch(`https://${service.host}${path}?api-version=2021-04-12`, { method, body: '{}', headers: { 'content-type': 'application/json' } });
      isRefused({ status: response.status, headers: response.headers, text: await response.text() }, 401, 'IotHubUnauthorizedAccess');
    });

    test('of an unknown api-version is refused', async () => {
      const [method, path] = make();
      for (const query of ['?api-version=1999-01-01', '?api-version=latest', '']) {
        const response = await fetch(`https://${service.host}${path}${query}`, {
          method, body: '{}', headers: { authorization: service.policyToken('iothubowner'), 'content-type': 'application/json' },
        });
        isRefused({ status: response.status, headers: response.headers, text: await response.text() }, 400, 'InvalidProtocolVersion');
      }
    });
  });
}

describe('the twin of a device', () => {
  for (const type of ['text/plain', 'application/xml', 'application/octet-stream']) {
    test(`is not written with the content type ${type}`, async () => {
      const before = (await twins.get(device)).etag;
      isRefused(await service.rest('PATCH', twins.path(device), { body: '{"tags":{"a":1}}', headers: { 'content-type': type } }), 415, 'GenericUnsupportedMediaType');
      assert.equal((await twins.get(device)).etag, before);
    });
  }

  for (const etag of ['"AAAAAAAAAAk="', 'AAAAAAAAAAk=', '"nonsense"', 'W/"AAAAAAAAAAE="', '""', '"', '"a" , "b"']) {
    test(`is not written under the etag ${etag}`, async () => {
      isRefused(await service.rest('PATCH', twins.path(device), { body: { tags: { a: 1 } }, headers: { 'if-match': etag } }), 412, 'PreconditionFailed');
    });
  }

  test('is not written by the wrong method', async () => {
    for (const method of ['POST', 'DELETE']) {
      const { status } = await service.rest(method, twins.path(device), { body: '{}' });
      assert.match(String(status), /^40[45]$/);
    }
  });
});

describe('what nobody knows', () => {
  test('is ignored in a device, a module and a twin', async () => {
    const deviceId = devices.freshId();
    const created = await service.rest('PUT', `/devices/${deviceId}`, { body: { deviceId, colour: 'red' } });
    assert.equal(created.status, 200, created.text);
    assert.ok(!('colour' in created.body));
    assert.equal((await service.rest('PUT', `/devices/${deviceId}/modules/m`, { body: { moduleId: 'm', colour: 'red' } })).status, 200);
    const twin = await service.rest('PATCH', twins.path({ deviceId }), { body: { colour: 'red', tags: { a: 1 }, properties: { other: {} } } });
    assert.equal(twin.status, 200, twin.text);
    assert.deepEqual(twin.body.tags, { a: 1 });
    assert.ok(!('colour' in twin.body));
  });
});

describe('a path', () => {
  const PATHS = ['/twins', '/twins/', '/twins//modules/', '/twins/%00', '/twins/a%2Fb', '/twins/%ff', '/digitaltwins/', '/jobs/v3/x', '/configurations/a/b', `/twins/${'x'.repeat(5000)}`];
  for (const path of PATHS) {
    test(`${path.slice(0, 30)} that leads nowhere is refused`, async () => {
      // by hand: fetch would tidy the path up
      const status = await new Promise((resolve, reject) => {
        https.get({
          host: service.host, path: `${path}?api-version=2021-04-12`, headers: { authorization: service.policyToken('iothubowner') },
        }, (response) => { response.resume(); resolve(response.statusCode); }).on('error', reject);
      });
      assert.match(String(status), /^4\d\d$/);
    });
  }
});
