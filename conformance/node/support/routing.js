'use strict';

// Where messages go: the hub's routing, over the control API.

const hub = require('./hub');
const eventHubs = require('./event-hubs');
const { Reader } = require('./telemetry');

const PATH = '/iolite/v1/routing';

const get = () => hub.control('GET', PATH);

/** Fills in what a routing has to have. */
const complete = ({ endpoints = {}, routes = [], enrichments = [], ...others }) => ({
  endpoints: { eventHubs: [], serviceBusQueues: [], serviceBusTopics: [], storageContainers: [], ...endpoints }, routes, enrichments, ...others,
});

/** Puts a routing in force, until the test (or file) ends. Answers it as it is in force. */
async function put(t, routing) {
  const before = await get();
  const answer = await hub.control('PUT', PATH, complete(routing));
  t.after(() => hub.control('PUT', PATH, before));
  return answer;
}

/** As put, but for what is refused: answers the status and what the hub says. */
async function refused(routing) {
  const response = await hub.request('PUT', PATH, { headers: { 'content-type': 'application/json' }, body: JSON.stringify(complete(routing)) });
  return { status: response.status, text: await response.text() };
}

/** A route to event hubs; each condition in the routing query language. */
const route = (endpointName, condition, { source = 'DeviceMessages', name = `${source}-to-${endpointName}` } = {}) =>
  ({ name, source, endpointNames: [endpointName], ...(condition === undefined ? {} : { condition }) });

/** An event hub in this process as endpoint. */
const inProcess = (name, partitions = 1) => ({ name, partitions });

/** What of a message would become, without sending any. */
const tryOut = (input) => hub.control('POST', `${PATH}/test`, input);

/** Everything that comes to one of the in-process event hubs from now on, sorted by device. */
const readerOf = (t, name) => Reader.open(t, { connectionString: eventHubs.connectionString(name) });

module.exports = { get, put, refused, route, inProcess, tryOut, readerOf };
