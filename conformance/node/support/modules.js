'use strict';

// Module identities and module clients.

const { ModuleClient } = require('azure-iot-device');
const { byKey } = require('./credentials');
const devices = require('./devices');
const service = require('./service');

/**
 * Creates a module, on a device of its own when no `deviceId` is given. `fields` are those of the registry's document. Answers
 * {host, deviceId, moduleId, generationId, key, secondaryKey}.
 */
async function create({ deviceId, moduleId = 'camera', ...fields } = {}) {
  if (!deviceId) ({ deviceId } = await devices.create());
  const { responseBody: module } = await service.registry().addModule({ deviceId, moduleId, ...fields });
  const { primaryKey, secondaryKey } = module.authentication.symmetricKey;
  return { host: service.host, deviceId, moduleId, generationId: module.generationId, key: primaryKey, secondaryKey };
}

/** A module client on `door`; otherwise it is devices.client. */
function client(t, door, module, provider = byKey(module, module.key)) {
  return devices.observed(t, door, (Transport) => ModuleClient.fromAuthenticationProvider(provider, Transport));
}

/** As client, and open. */
async function connect(t, door, module, provider) {
  const made = client(t, door, module, provider);
  await made.open();
  return made;
}

module.exports = { create, client, connect };
