'use strict';

// Device to cloud: what a device sends through any of the five doors is what an Event Hubs client reads.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { before, describe, test } = require('node:test');
const { Client } = require('azure-iot-device');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { DOORS, speaking } = require('../../support/doors');
const { fileScope } = require('../../support/scope');
const { Reader } = require('../../support/telemetry');
const { message } = service;

const KB = 1024;
const LIMIT = 256 * KB; // body plus properties
const SECURITY_INTERFACE = 'urn:azureiot:Security:SecurityAgent:1';

const file = fileScope();
let reader;

before(async () => {
  await service.load();
  reader = await Reader.open(file);
});

for (const door of DOORS) {
  describe(`telemetry over ${door.name}`, () => {
    test('system properties arrive under their own names', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      await client.sendEvent(message('hello', {
        messageId: 'message-1', correlationId: 'correlation-1', contentType: 'text/plain', contentEncoding: 'utf-8',
      }));
      const event = await reader.of(device.deviceId).take();
      assert.equal(event.messageId, 'message-1');
      assert.equal(event.correlationId, 'correlation-1');
      assert.equal(event.contentType, 'text/plain');
      assert.equal(event.systemProperties.contentType, 'text/plain');
      assert.equal(event.systemProperties.contentEncoding, 'utf-8');
      assert.equal(event.raw.bodyType, 'data');
      assert.equal(event.body.toString(), 'hello');
    });

    test('ids that look like UUIDs stay text', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const [messageId, correlationId] = [randomUUID(), randomUUID()];
      await client.sendEvent(message('hello', { messageId, correlationId }));
      const event = await reader.of(device.deviceId).take();
      assert.equal(event.messageId, messageId);
      assert.equal(event.correlationId, correlationId);
    });

    test('application properties arrive with their names, values and case', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const properties = { plain: 'value', camelCase: 'kept', path: '/a/b?c=d&e=f', spaces: 'one two', percent: '100%25 #1', plus: '1+1' };
      await client.sendEvent(message('hello', { properties }));
      const event = await reader.of(device.deviceId).take();
      assert.deepEqual(pick(event.properties, Object.keys(properties)), properties);
    });

    test('the hub says who sent it, when, and how the sender proved it', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const earliest = await hub.now();
      await client.sendEvent(message('hello'));
      const latest = await hub.now();
      const event = await reader.of(device.deviceId).take();
      const system = event.systemProperties;
      assert.equal(system['iothub-connection-device-id'], device.deviceId);
      assert.equal(system['iothub-connection-auth-generation-id'], device.generationId);
      assert.equal(system['iothub-connection-module-id'], undefined);
      assert.equal(system['iothub-message-source'], 'Telemetry');
      const method = JSON.parse(system['iothub-connection-auth-method']);
      assert.equal(method.scope, 'device');
      assert.equal(method.type, 'sas');
      assert.equal(method.issuer, 'iothub');

      const annotations = event.raw.messageAnnotations;
      assert.ok(annotations['iothub-enqueuedtime'] instanceof Date, 'iothub-enqueuedtime is a timestamp');
      assert.ok(annotations['x-opt-enqueued-time'] instanceof Date, 'x-opt-enqueued-time is a timestamp');
      assert.equal(typeof annotations['x-opt-offset'], 'string');
      assert.equal(typeof annotations['x-opt-sequence-number'], 'number');
      assert.equal(event.partitionKey, device.deviceId);
      assert.ok(event.enqueuedTimeUtc >= earliest && event.enqueuedTimeUtc <= latest,
        `${event.enqueuedTimeUtc.toISOString()} is between ${earliest.toISOString()} and ${latest.toISOString()}`);
    });

    test('interface and component names become annotations', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const sent = message('{}', { properties: { 'dt-subject': 'thermostat1' } });
      sent.setAsSecurityMessage();
      await client.sendEvent(sent);
      const { systemProperties, properties } = await reader.of(device.deviceId).take();
      assert.equal(systemProperties['iothub-interface-id'], SECURITY_INTERFACE);
      assert.equal(systemProperties['dt-subject'], 'thermostat1');
      assert.equal(properties?.['dt-subject'], undefined);
    });

    test('a body of all byte values arrives byte for byte, and so does an empty one', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const bytes = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 256));
      await client.sendEvent(message(bytes));
      await client.sendEvent(message(Buffer.alloc(0)));
      const inbox = reader.of(device.deviceId);
      assert.deepEqual((await inbox.take()).body, bytes);
      assert.equal((await inbox.take()).body.length, 0);
    });

    test('hundreds of messages arrive once each, in order, on one partition', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const count = 300;
      // HTTPS requests have no order among themselves, so each waits for the one before.
      const sending = [];
      for (let i = 0; i < count; i++) {
        const sent = client.sendEvent(message(String(i), { properties: { index: String(i) } }));
        sending.push(sent);
        if (door.protocol === 'http') await sent;
      }
      await Promise.all(sending);
      const events = await reader.of(device.deviceId).takeMany(count);
      assert.deepEqual(events.map((e) => e.body.toString()), Array.from({ length: count }, (_, i) => String(i)));
      assert.equal(new Set(events.map((e) => e.partitionId)).size, 1);
      events.slice(1).forEach((e, i) => assert.ok(e.sequenceNumber > events[i].sequenceNumber, 'sequence numbers rise'));
    });

    test('a message just below 256 KiB arrives whole', async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const body = Buffer.alloc(LIMIT - KB, 'x');
      await client.sendEvent(message(body));
      assert.deepEqual((await reader.of(device.deviceId).take()).body, body);
    });
  });
}

describe('what is too large', () => {
  const tooLarge = () => message(Buffer.alloc(LIMIT), { properties: { padding: 'p'.repeat(KB) } });

  for (const door of speaking('amqp', 'http')) {
    test(`${door.name} refuses it with MessageTooLargeError and goes on`, async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      await assert.rejects(client.sendEvent(tooLarge()), { name: 'MessageTooLargeError' });
      await client.sendEvent(message('after'));
      assert.equal((await reader.of(device.deviceId).take()).body.toString(), 'after');
    });
  }

  // MQTT 3.1.1 has no negative PUBACK: the hub closes the connection, and the SDK calls that NotConnectedError.
  for (const door of speaking('mqtt')) {
    test(`${door.name} loses its connection over it, and only it`, async (t) => {
      const device = await devices.create();
      const bystander = await devices.create();
      const client = await devices.connect(t, door, device);
      const other = await devices.connect(t, door, bystander);
      await assert.rejects(client.sendEvent(tooLarge()), { name: 'NotConnectedError' });
      await other.sendEvent(message('undisturbed'));
      const again = await devices.connect(t, door, device);
      await again.sendEvent(message('after'));
      assert.equal((await reader.of(bystander.deviceId).take()).body.toString(), 'undisturbed');
      assert.equal((await reader.of(device.deviceId).take()).body.toString(), 'after');
    });
  }
});

describe('what only some doors do', () => {
  for (const door of speaking('http')) {
    test(`${door.name} sends a batch, each message with its own properties`, async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const indices = Array.from({ length: 20 }, (_, i) => String(i));
      await client.sendEventBatch(indices.map((i) => message(Buffer.from([0, 0xff, Number(i)]), { properties: { index: i } })));
      const events = await reader.of(device.deviceId).takeMany(indices.length);
      assert.deepEqual(events.map((e) => e.properties.index), indices);
      events.forEach((e, i) => assert.deepEqual(e.body, Buffer.from([0, 0xff, i])));
    });

    test(`${door.name} refuses a batch above 256 KiB as a whole`, async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const half = () => message(Buffer.alloc(LIMIT / 2, 'x'));
      await assert.rejects(client.sendEventBatch([half(), half(), half()]), { name: 'MessageTooLargeError' });
      await client.sendEvent(message('after'));
      assert.equal((await reader.of(device.deviceId).take()).body.toString(), 'after');
    });
  }

  for (const door of speaking('mqtt')) {
    test(`${door.name} carries the user id, and the model id given at connect`, async (t) => {
      const device = await devices.create();
      const client = devices.client(t, door, device);
      await client.setOptions({ modelId: 'dtmi:com:example:Thermostat;1' });
      await client.open();
      await client.sendEvent(message('hello', { userId: 'user-1' }));
      const event = await reader.of(device.deviceId).take();
      assert.equal(event.systemProperties['dt-dataschema'], 'dtmi:com:example:Thermostat;1');
      // The Event Hubs SDK copies the binary user-id into an object with numbers for keys.
      assert.equal(Buffer.from(Object.values(event.systemProperties.userId)).toString(), 'user-1');
    });
  }

  for (const door of speaking('mqtt', 'amqp')) {
    test(`${door.name} carries text beyond ASCII in application properties`, async (t) => {
      const device = await devices.create();
      const client = await devices.connect(t, door, device);
      const properties = { 'größe': 'fünf', emoji: '🌡️' };
      await client.sendEvent(message('hello', { properties }));
      assert.deepEqual(pick((await reader.of(device.deviceId).take()).properties, Object.keys(properties)), properties);
    });
  }
});

describe('many devices at once', () => {
  for (const door of speaking('mqtt', 'amqp')) {
    test(`40 devices over ${door.name} keep their own order`, async (t) => {
      const [fleet, each] = [40, 10];
      const all = await Promise.all(Array.from({ length: fleet }, () => devices.create()));
      await Promise.all(all.map(async (device) => {
        const client = await devices.connect(t, door, device);
        await Promise.all(Array.from({ length: each }, (_, i) => client.sendEvent(message(String(i)))));
      }));
      for (const device of all) {
        const events = await reader.of(device.deviceId).takeMany(each);
        assert.deepEqual(events.map((e) => Number(e.body.toString())), Array.from({ length: each }, (_, i) => i));
      }
    });
  }
});

describe('the connection string that the hub prints', () => {
  for (const door of DOORS) {
    test(`opens ${door.name} as it stands`, async (t) => {
      const connectionString = service.deviceConnectionString('conformance-node');
      const client = Client.fromConnectionString(connectionString, door.Transport);
      t.after(() => client.close());
      await client.open();
      const messageId = randomUUID();
      await client.sendEvent(message('hello', { messageId }));
      assert.equal((await reader.of('conformance-node').take()).messageId, messageId);
    });
  }
});

function pick(from, keys) {
  return Object.fromEntries(keys.map((key) => [key, from?.[key]]));
}
