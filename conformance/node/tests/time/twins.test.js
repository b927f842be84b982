'use strict';

// What twins say about time, by the hub's clock.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const hub = require('../../support/hub');
const service = require('../../support/service');
const twins = require('../../support/twins');
const { speaking } = require('../../support/doors');
const { PEERS } = require('../../support/peers');

const [MQTT] = speaking('mqtt');
const HOUR_MS = 3_600_000;

before(() => service.load());

for (const peer of PEERS) {
  describe(`the twin of a ${peer.kind}`, () => {
    test('dates each property by when it was written last, on both sides', async (t) => {
      const identity = await peer.create();
      const client = await peer.connect(t, MQTT, identity);
      await twins.desire(identity, { old: 1, both: { old: 1, new: 1 } });
      await twins.report(client, { old: 1, both: { old: 1, new: 1 } });
      await hub.advance('1h');
      await twins.desire(identity, { both: { new: 2 } });
      await twins.report(client, { both: { new: 2 } });
      const { properties } = await twins.get(identity);
      for (const { $metadata } of [properties.desired, properties.reported]) {
        const [early, late] = [Date.parse($metadata.old.$lastUpdated), Date.parse($metadata.both.new.$lastUpdated)];
        assert.ok(late - early >= HOUR_MS, `${early} ${late}`);
        assert.equal(Date.parse($metadata.both.old.$lastUpdated), Date.parse($metadata.old.$lastUpdated));
        assert.equal(Date.parse($metadata.both.$lastUpdated), late);
        assert.equal(Date.parse($metadata.$lastUpdated), late);
      }
    });

    test('remembers when its identity was last active', async (t) => {
      const identity = await peer.create();
      const client = await peer.connect(t, MQTT, identity);
      const lastActivity = async () => Date.parse((await twins.get(identity)).lastActivityTime);
      await twins.report(client, { a: 1 });
      const first = await lastActivity();
      await hub.advance('1h');
      assert.equal(await lastActivity(), first); // being connected is no activity
      await client.sendEvent(service.message('hello'));
      const second = await lastActivity();
      assert.ok(second - first >= HOUR_MS);
      await client.close();
      await hub.until('it is Disconnected', async () => (await twins.get(identity)).connectionState === 'Disconnected');
      await hub.advance('1h');
      assert.ok((await lastActivity()) - second < HOUR_MS);
    });
  });
}
