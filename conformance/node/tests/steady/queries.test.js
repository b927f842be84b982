'use strict';

// Queries through the SDK's Query: pages, items as twins and as rows, and what the language can say (article "IoT Hub query language").

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const devices = require('../../support/devices');
const modules = require('../../support/modules');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { speaking } = require('../../support/doors');
const { refusal, isRefused } = require('../../support/refusal');

const FLEET = devices.freshId('fleet'); // a tag that only this file's devices have

// What each device of the fleet is, by the letter that its id ends with. Reported properties come from the device itself.
const DEVICES = {
  a: { tags: { floor: 1, place: 'roof', 'odd-name': 'x' }, desired: { on: true, level: 1.5, nested: { deep: 'yes' } } },
  b: { tags: { floor: 2, place: 'Cellar' }, desired: { on: false, level: -2, list: [1, 'two'] } },
  c: { tags: { floor: 2, place: null }, desired: { level: 10, nested: { deep: 'no' } } },
  d: { tags: { floor: 3, place: 'it\'s "quoted"' }, desired: { on: null, text: 'hello', level: 'high' } },
  e: { tags: {}, desired: {}, fields: { status: 'disabled', statusReason: 'in repair' } },
};

let registry;

const idOf = (letter) => `${FLEET}-${letter}`;
const lettersOf = (twinsOrRows) => twinsOrRows.map(({ deviceId }) => deviceId.at(-1)).sort().join('');

before(async () => {
  await service.load();
  registry = service.registry();
  for (const [letter, { tags, desired, fields }] of Object.entries(DEVICES)) {
    const device = await devices.create({ deviceId: idOf(letter), ...fields });
    await twins.patch(device, { tags: { ...tags, fleet: FLEET }, properties: { desired } });
  }
  for (const moduleId of ['camera', 'radio']) {
    await twins.patch(await modules.create({ deviceId: idOf('a'), moduleId }), { tags: { fleet: FLEET, kind: moduleId } });
  }
});

/** Everything a query finds, page by page: {items, pages, types}. The SDK's promises want to be told where to go on. */
async function all(query, next = 'next') {
  const items = [];
  const types = new Set();
  let pages = 0;
  do {
    const { result, message } = await query[next](query.continuationToken);
    items.push(...result);
    types.add(message.headers['x-ms-item-type']);
    pages++;
  } while (query.hasMoreResults);
  return { items, pages, types: [...types] };
}

const rows = async (sql) => (await all(registry.createQuery(sql))).items;
const where = async (condition) => lettersOf(await rows(`SELECT * FROM devices WHERE tags.fleet = '${FLEET}' AND (${condition})`));

describe('a query', () => {
  test('answers twins, page by page, each once', async () => {
    const query = registry.createQuery(`SELECT * FROM devices WHERE tags.fleet = '${FLEET}'`, 2);
    const { items, pages, types } = await all(query, 'nextAsTwin');
    assert.equal(lettersOf(items), 'abcde');
    assert.equal(pages, 3);
    assert.deepEqual(types, ['Twin']);
  });

  test('answers twins that are whole, and can be written', async () => {
    const query = registry.createQuery(`SELECT * FROM devices WHERE deviceId = '${idOf('a')}'`);
    const { result: [twin] } = await query.nextAsTwin();
    assert.deepEqual(JSON.parse(JSON.stringify(twin)), JSON.parse(JSON.stringify(await twins.get({ deviceId: idOf('a') }))));
    const { etag } = twin;
    await twin.update({ tags: { written: true } });
    assert.notEqual((await twins.get({ deviceId: idOf('a') })).etag, etag);
  });

  test('of one page has no more results; one that finds nothing has an empty page', async () => {
    const one = registry.createQuery(`SELECT * FROM devices WHERE tags.fleet = '${FLEET}'`, 100);
    assert.equal((await one.nextAsTwin()).result.length, 5);
    assert.equal(one.hasMoreResults, false);
    const none = registry.createQuery("SELECT * FROM devices WHERE tags.fleet = 'nobody'");
    assert.deepEqual((await none.next()).result, []);
    assert.equal(none.hasMoreResults, false);
  });

  test('goes on from a continuation token, by another client too, and as often as one likes', async () => {
    const sql = `SELECT deviceId FROM devices WHERE tags.fleet = '${FLEET}'`;
    const query = registry.createQuery(sql, 2);
    await query.next();
    const token = query.continuationToken;
    const second = (await query.next(token)).result;
    const again = (await registry.createQuery(sql, 2).next(token)).result;
    assert.deepEqual(again, second);
  });

  test('with a token that is none is refused', async () => {
    await assert.rejects(registry.createQuery('SELECT * FROM devices').next('forged'), refusal(400, 'ArgumentInvalid'));
  });

  for (const size of ['0', '-1', 'many']) {
    test(`with a page size of ${size} is refused`, async () => {
      isRefused(await service.rest('POST', '/devices/query', { body: { query: 'SELECT * FROM devices' }, headers: { 'x-ms-max-item-count': size } }), 400, 'ArgumentInvalid');
    });
  }

  test('answers rows of what was selected', async () => {
    const query = registry.createQuery(`SELECT deviceId, tags.floor AS floor, properties.desired.level FROM devices WHERE deviceId = '${idOf('a')}'`);
    const { items, types } = await all(query);
    assert.deepEqual(types, ['Raw']);
    assert.deepEqual(items, [{ deviceId: idOf('a'), floor: 1, level: 1.5 }]);
  });

  test('counts and calculates', async () => {
    const of = `FROM devices WHERE tags.fleet = '${FLEET}'`;
    assert.deepEqual(await rows(`SELECT COUNT() AS n ${of}`), [{ n: 5 }]);
    assert.deepEqual(await rows(`SELECT COUNT() AS n, SUM(tags.floor) AS s, AVG(tags.floor) AS a, MIN(tags.floor) AS l, MAX(tags.floor) AS h ${of}`),
      [{ n: 5, s: 8, a: 2, l: 1, h: 3 }]);
    const groups = await rows(`SELECT tags.floor AS floor, COUNT() AS n ${of} AND IS_DEFINED(tags.floor) GROUP BY tags.floor`);
    assert.deepEqual(groups.sort((x, y) => x.floor - y.floor), [{ floor: 1, n: 1 }, { floor: 2, n: 2 }, { floor: 3, n: 1 }]);
  });

  test('stops at TOP', async () => {
    assert.equal((await rows(`SELECT TOP 3 * FROM devices WHERE tags.fleet = '${FLEET}'`)).length, 3);
    const query = registry.createQuery(`SELECT TOP 3 * FROM devices WHERE tags.fleet = '${FLEET}'`, 2);
    const { items, pages } = await all(query);
    assert.deepEqual([items.length, pages], [3, 2]);
  });

  test('finds modules', async () => {
    const { items, types } = await all(registry.createQuery(`SELECT * FROM devices.modules WHERE tags.fleet = '${FLEET}'`), 'nextAsTwin');
    assert.deepEqual(items.map((m) => m.moduleId).sort(), ['camera', 'radio']);
    assert.ok(items.every((m) => m.deviceId === idOf('a')));
    assert.deepEqual(types, ['Twin']);
    const found = await rows(`SELECT moduleId FROM devices.modules WHERE devices.deviceId = '${idOf('a')}' AND moduleId = 'radio'`);
    assert.deepEqual(found, [{ moduleId: 'radio' }]);
  });

  test('sees reported properties and the connection at once', async (t) => {
    const [door] = speaking('mqtt');
    const device = await devices.create();
    await twins.report(await devices.connect(t, door, device), { battery: { level: 55 } });
    const find = (condition) => rows(`SELECT deviceId FROM devices WHERE deviceId = '${device.deviceId}' AND ${condition}`);
    assert.equal((await find("properties.reported.battery.level > 50 AND connectionState = 'Connected'")).length, 1);
    assert.equal((await find('properties.reported.battery.level < 50')).length, 0);
  });

  const CONDITIONS = {
    'tags.floor = 2': 'bc',
    'tags.floor != 2': 'ad',
    'tags.floor <> 2': 'ad',
    'tags.floor > 1 AND tags.floor <= 3': 'bcd',
    "tags.place = 'roof' OR tags.floor >= 3": 'ad',
    'NOT (tags.floor = 2)': 'ad',
    "tags.[[odd-name]] = 'x'": 'a',
    'tags.floor IN [1, 3]': 'ad',
    'tags.floor NIN [1, 3]': 'bc',
    [`deviceId IN ['${idOf('a')}', '${idOf('e')}', 'nobody']`]: 'ae',
    'properties.desired.on = true': 'a',
    'properties.desired.on = false': 'b',
    'is_defined(properties.desired.on)': 'ab',
    'NOT IS_DEFINED(tags.floor)': 'e',
    'IS_BOOL(properties.desired.on)': 'ab',
    'IS_NUMBER(properties.desired.level)': 'abc',
    'IS_STRING(properties.desired.level)': 'd',
    'IS_OBJECT(properties.desired.nested)': 'ac',
    'IS_PRIMITIVE(properties.desired.level)': 'abcd',
    'IS_ARRAY(properties.desired.list)': 'b',
    "properties.desired.nested.deep = 'yes'": 'a',
    "STARTSWITH(tags.place, 'ro')": 'a',
    "ENDSWITH(tags.place, 'lar')": 'b',
    "CONTAINS(tags.place, 'quoted')": 'd',
    'tags.place = "roof"': 'a',
    "LENGTH(tags.place) = 4": 'a',
    "LOWER(tags.place) = 'cellar'": 'b',
    "UPPER(tags.place) = 'ROOF'": 'a',
    "SUBSTRING(tags.place, 0, 2) = 'ro'": 'a',
    'properties.desired.level * 2 = 3': 'a',
    'ABS(properties.desired.level) = 2': 'b',
    'tags.floor + 1 = 4': 'd',
    "status = 'disabled'": 'e',
    'capabilities.iotEdge = false': 'abcde',
    "authenticationType = 'sas'": 'abcde',
    "connectionState = 'Disconnected'": 'abcde',
  };
  for (const [condition, expected] of Object.entries(CONDITIONS)) {
    test(`finds ${expected} WHERE ${condition.replaceAll(FLEET, 'fleet')}`, async () => {
      assert.equal(await where(condition), expected);
    });
  }
});

const BAD = {
  'no query': '',
  'no FROM': 'SELECT *',
  'an unknown collection': 'SELECT * FROM cars',
  'a condition without an end': 'SELECT * FROM devices WHERE tags.a =',
  'a text without an end': "SELECT * FROM devices WHERE tags.a = 'x",
  'a parenthesis too many': 'SELECT * FROM devices WHERE (tags.a = 1))',
  'an unknown function': 'SELECT * FROM devices WHERE EXPLODE(tags.a)',
  'two words where one is': 'SELECT * FROM devices WHERE tags.a = 1 2',
  'a keyword alone': 'WHERE',
  'a TOP of nothing': 'SELECT TOP -1 * FROM devices',
  'a thousand parentheses': `SELECT * FROM devices WHERE ${'('.repeat(1000)}tags.a = 1${')'.repeat(1000)}`,
  'a hundred thousand NOTs': `SELECT * FROM devices WHERE ${'NOT '.repeat(100_000)}tags.a = 1`,
  'ten thousand clauses': `SELECT * FROM devices WHERE ${Array.from({ length: 10_000 }, (_, i) => `tags.a = ${i}`).join(' OR ')}`,
  'a literal of half a megabyte': `SELECT * FROM devices WHERE tags.a = '${'x'.repeat(1 << 19)}'`,
};

describe('a query that is none', () => {
  for (const [what, query] of Object.entries(BAD)) {
    test(`is refused: ${what}`, async () => {
      const begun = Date.now();
      isRefused(await service.rest('POST', '/devices/query', { body: { query } }), 400, 'ArgumentInvalid');
      assert.ok(Date.now() - begun < 2_000, 'the refusal came at once');
    });
  }

  test('is an ArgumentError to the SDK that says where the error is', async () => {
    await assert.rejects(registry.createQuery('SELECT * FROM devices WHERE tags.a ==== 1').next(), (err) => {
      assert.match(err.responseBody, /35|36|37|38|position|column/);
      return refusal(400, 'ArgumentInvalid')(err);
    });
  });

  for (const [what, body] of Object.entries({ 'no JSON': '{', 'no object': '["SELECT * FROM devices"]', 'no text': { query: 7 }, nothing: {} })) {
    test(`is refused: a body with ${what}`, async () => {
      const answer = await service.rest('POST', '/devices/query', { body });
      assert.equal(answer.status, 400, answer.text);
    });
  }
});
