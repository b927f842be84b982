'use strict';

// Twin and method subscriptions outlive what connections do not: a renewed token, a broken socket. An application that let the SDK do its
// work notices nothing.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { ExponentialBackOffWithJitter } = require('azure-iot-common');
const { SharedAccessSignatureAuthenticationProvider } = require('azure-iot-device');
const devices = require('../../support/devices');
const hub = require('../../support/hub');
const methods = require('../../support/methods');
const modules = require('../../support/modules');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { createSelfSigned, thumbprint } = require('../../support/certificates');
const { byCertificate, byToken, token } = require('../../support/credentials');
const { speaking } = require('../../support/doors');
const { PEERS } = require('../../support/peers');

const DOORS = speaking('mqtt', 'amqp');

before(() => service.load());

const resourceOf = ({ host, deviceId, moduleId }) => `${host}/devices/${deviceId}${moduleId ? `/modules/${moduleId}` : ''}`;

/** Subscribes to everything; answers a check that all of it works, once more. */
async function listening(identity, client) {
  const changes = await twins.follow(client);
  await methods.answer(client, 'echo', ({ payload }) => ({ payload }));
  let n = 0;
  return async () => {
    n++;
    await twins.desire(identity, { n });
    assert.equal((await changes.take()).n, n);
    assert.deepEqual(await methods.invoke(identity, 'echo', { payload: n }), { status: 200, payload: n });
    assert.equal(changes.left, 0);
  };
}

for (const peer of PEERS) {
  for (const door of DOORS) {
    describe(`subscriptions of a ${peer.kind} over ${door.name}`, () => {
      test('outlive the renewal of a token', async (t) => {
        const identity = await peer.create();
        const provider = SharedAccessSignatureAuthenticationProvider.fromSharedAccessSignature(token(resourceOf(identity), identity.key));
        const client = await peer.connect(t, door, identity, provider);
        const works = await listening(identity, client);
        await works();
        await client.updateSharedAccessSignature(token(resourceOf(identity), identity.secondaryKey));
        await twins.report(client, { renewed: true }); // the MQTT client connects anew, and says so before it has
        await works();
        assert.equal((await twins.get(identity)).properties.reported.renewed, true);
      });

      for (const [how, cut] of Object.entries({
        'its socket breaks': (client) => devices.tear(client, door),
        'the hub cuts it off': (client, { deviceId }) => hub.disconnect(deviceId),
      })) {
        if (door.name === 'MQTT' && how === 'the hub cuts it off') continue; // a reset, which the MQTT client takes for final (ECONNRESET)
        test(`are made again by the SDK when ${how}`, async (t) => {
          const identity = await peer.create();
          const client = await peer.connect(t, door, identity);
          const works = await listening(identity, client);
          client.setRetryPolicy(new ExponentialBackOffWithJitter(true));
          await works();
          const [{ since }] = await hub.connections(identity.deviceId);
          await cut(client, identity);
          await hub.until('it is connected anew and takes methods', async () => {
            const [connection] = await hub.connections(identity.deviceId);
            return connection && connection.since !== since && methods.invoke(identity, 'echo', { payload: 0 }).then(() => true, () => false);
          }, 15_000);
          await twins.refollow(client); // what the SDK does by itself, too, but tells nobody when
          await works();
        });
      }

      test('are had by one that a policy let in', async (t) => {
        const identity = await peer.create();
        const works = await listening(identity, await peer.connect(t, door, identity, byToken(identity, service.policyToken('device'))));
        await works();
      });

      test('are had by one with a certificate', async (t) => {
        const certificate = createSelfSigned('subscriber');
        const authentication = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: thumbprint(certificate.cert), secondaryThumbprint: null } };
        const identity = peer.kind === 'device' ? await devices.create({ authentication }) : await modules.create({ authentication });
        const works = await listening(identity, await peer.connect(t, door, identity, byCertificate(identity, certificate)));
        await works();
      });

      test('end with their connection, and come back with the next', async (t) => {
        const identity = await peer.create();
        const first = await peer.connect(t, door, identity);
        const works = await listening(identity, first);
        await works();
        await first.close();
        await twins.desire(identity, { n: -1 }); // told to nobody
        const again = await listening(identity, await peer.connect(t, door, identity));
        await again();
      });
    });
  }
}
