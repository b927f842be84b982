'use strict';

// A connection lasts no longer than the token it came with, plus the five minutes that the hub allows for clocks that differ.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { SharedAccessSignatureAuthenticationProvider } = require('azure-iot-device');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const service = require('../../support/service');
const { token } = require('../../support/credentials');
const { speaking } = require('../../support/doors');
const { message } = service;

const LIFETIME_S = 600;
const BEYOND_TOKEN = '15m2s'; // its lifetime, the five minutes, and a little

before(() => service.load());

/** A token that ends ten minutes from now by the hub's clock. */
async function shortToken({ host, deviceId, key }) {
  const ahead = Math.round(((await hub.now()).getTime() - Date.now()) / 1000);
  return token(`${host}/devices/${deviceId}`, key, { lifetime: ahead + LIFETIME_S });
}

/** A device that came with a token of ten minutes and has sent a message; client.lost resolves when it loses its connection. */
async function visitor(t, door) {
  const device = await devices.create();
  const provider = SharedAccessSignatureAuthenticationProvider.fromSharedAccessSignature(await shortToken(device));
  const client = await devices.connect(t, door, device, provider);
  client.isLost = false;
  client.lost = new Promise((resolve) => { client.once('disconnect', () => { client.isLost = true; resolve(); }); });
  await client.sendEvent(message('before'));
  return { device, client };
}

for (const door of speaking('mqtt', 'amqp')) {
  describe(`a token over ${door.name}`, () => {
    test('takes its connection with it when it ends', async (t) => {
      const { device, client } = await visitor(t, door);
      await hub.advance(BEYOND_TOKEN);
      await client.lost;
      assert.deepEqual(await hub.connections(device.deviceId), []);
    });

    test('that was renewed does not', async (t) => {
      const { device, client } = await visitor(t, door);
      await client.updateSharedAccessSignature(token(`${device.host}/devices/${device.deviceId}`, device.key));
      await client.sendEvent(message('renewed'));
      await hub.advance(BEYOND_TOKEN);
      await client.sendEvent(message('after'));
      assert.equal(client.isLost, false);
    });
  });
}
