'use strict';

// A second hub beside the one of the suite, with a start of its own. It trusts the first one's certificates and Azurite's.

const path = require('node:path');
const { NoRetry } = require('azure-iot-common');
const { Client, Registry } = require('azure-iothub');
const { token } = require('./credentials');
const devices = require('./devices');
const { Server } = require('./server');

const { IOLITE_BIN, IOLITE_DIR, IOLITE_SECOND_ADDRESS } = process.env;

class SecondHub {
  /** Starts it, until the test (or file) ends. `args` are the command's. */
  static async start(t, ...args) {
    const second = new SecondHub();
    const trusted = ['certs/ca.pem', 'device-ca.pem'].flatMap((file) => ['--trust-ca', path.join(IOLITE_DIR, file)]);
    second.server = await Server.start(IOLITE_BIN, IOLITE_DIR, 'second-hub', IOLITE_SECOND_ADDRESS, [...trusted, ...args]);
    t.after(async () => {
      const fault = await second.server.stop();
      if (fault) throw new Error(`${fault}\n${second.server.tail()}`);
    });
    second.info = await second.control('GET', '/iolite/v1/info');
    return second;
  }

  /** A request to its control API. */
  async control(method, resource, body) {
    const json = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    const response = await fetch(this.server.control + resource, { method, ...json });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${resource} answered ${response.status}: ${text}\n${this.server.tail()}`);
    return text ? JSON.parse(text) : undefined;
  }

  /** A new device of this hub: {host, deviceId, key}. */
  async createDevice() {
    // A token of the SDK's own making would not outlive a move of the clock.
    const { primaryKey } = this.info.policies.find(({ name }) => name === 'registryReadWrite');
    const registry = Registry.fromSharedAccessSignature(token(this.info.hostname, primaryKey, { policy: 'registryReadWrite' }));
    const { responseBody } = await registry.create({ deviceId: devices.freshId() });
    return { host: this.info.hostname, deviceId: responseBody.deviceId, key: responseBody.authentication.symmetricKey.primaryKey };
  }

  /** An open service client. */
  async connect(t) {
    const client = Client.fromConnectionString(this.info.connectionString);
    client.setRetryPolicy(new NoRetry());
    t.after(() => client.close());
    await client.open();
    return client;
  }
}

module.exports = { SecondHub };
