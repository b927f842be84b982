'use strict';

// What a portal is for: consumer groups, and event hubs beside the built-in one, over the control API.

const hub = require('./hub');
const service = require('./service');

const path = (...segments) => ['/iolite/v1/eventhubs', ...segments.map(encodeURIComponent)].join('/');
const groupPath = (group, eventHub = builtIn()) => path(eventHub, 'consumergroups', group);

/** The name of the built-in event hub. */
const builtIn = () => /EntityPath=([^;]+)/.exec(service.eventHubs)[1];

/** The connection string of an event hub, over TLS. */
const connectionString = (eventHub) => service.eventHubs.replace(/EntityPath=[^;]+/, `EntityPath=${eventHub}`);

const get = (eventHub) => hub.control('GET', path(eventHub));
const list = async () => (await hub.control('GET', path())).eventHubs;

/** Makes an event hub, or adds to one; it is there until the test (or file) ends. */
async function put(t, eventHub, properties = {}) {
  const made = await hub.control('PUT', path(eventHub), properties);
  t.after(() => hub.request('DELETE', path(eventHub)));
  return made;
}

const remove = (eventHub) => hub.control('DELETE', path(eventHub));

const getGroup = (group, eventHub) => hub.control('GET', groupPath(group, eventHub));

/** Makes a consumer group; it is there until the test (or file) ends. */
async function putGroup(t, group, eventHub) {
  const made = await hub.control('PUT', groupPath(group, eventHub));
  t.after(() => hub.request('DELETE', groupPath(group, eventHub)));
  return made;
}

const removeGroup = (group, eventHub) => hub.control('DELETE', groupPath(group, eventHub));

module.exports = { path, groupPath, builtIn, connectionString, get, list, put, remove, getGroup, putGroup, removeGroup };
