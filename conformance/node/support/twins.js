'use strict';

// Twins, from both sides.

const { promisify } = require('node:util');
const { Inbox } = require('./inbox');
const service = require('./service');

const path = ({ deviceId, moduleId }) => `/twins/${encodeURIComponent(deviceId)}${moduleId ? `/modules/${encodeURIComponent(moduleId)}` : ''}`;

/** The twin of a device or module as the service SDK reads it. */
async function get({ deviceId, moduleId }) {
  const registry = service.registry();
  return (await (moduleId ? registry.getModuleTwin(deviceId, moduleId) : registry.getTwin(deviceId))).responseBody;
}

/** Patches tags and desired properties through the service SDK; answers the new twin. */
async function patch({ deviceId, moduleId }, change, etag = '*') {
  const registry = service.registry();
  const done = moduleId ? registry.updateModuleTwin(deviceId, moduleId, change, etag) : registry.updateTwin(deviceId, change, etag);
  return (await done).responseBody;
}

const desire = (identity, desired) => patch(identity, { properties: { desired } });

/** Replaces tags and desired properties. The Node SDK has no call for it; this is the documented request behind the others'. */
const replace = (identity, twin, headers = {}) => service.rest('PUT', path(identity), { body: twin, headers });

/** The client's own twin, read anew. */
const own = (client) => client.getTwin();

/** What the identity reads of itself, without the SDK's additions. */
async function properties(client) {
  const { desired, reported } = (await own(client)).properties;
  return JSON.parse(JSON.stringify({ desired, reported }));
}

/** Reports properties; the SDK wants to have read the twin before that, once. */
async function report(client, change) {
  const twin = client._twin ?? await own(client);
  await promisify(twin.properties.reported.update)(change);
}

/**
 * Subscribes to changes of desired properties and waits until the hub knows. Answers the Inbox in which they arrive. The SDK says nothing
 * about when a listener is subscribed, so the subscription is made first; the listener makes it again, which must change nothing.
 */
async function follow(client) {
  const twin = await own(client);
  await promisify(twin.enableTwinDesiredPropertiesUpdates.bind(twin))();
  const inbox = new Inbox('change of desired properties');
  twin.on('properties.desired', (change) => inbox.put(structuredClone(change)));
  await inbox.take(); // the SDK first hands out what it has
  return inbox;
}

const unfollow = (client) => promisify(client.transport.disableTwinDesiredPropertiesUpdates.bind(client.transport))();

/** Subscribes once more after unfollow, without another listener. */
const refollow = (client) => promisify(client.transport.enableTwinDesiredPropertiesUpdates.bind(client.transport))();

module.exports = { path, get, patch, desire, replace, own, properties, report, follow, unfollow, refollow };
