'use strict';

// Direct methods, from both sides.

const { promisify } = require('node:util');
const service = require('./service');
const twins = require('./twins');

/** Calls a method through the service SDK; answers {status, payload} as the device gave them. */
async function invoke({ deviceId, moduleId }, methodName, params = {}) {
  const backEnd = service.methods();
  const call = { methodName, ...params };
  const { result } = await (moduleId ? backEnd.invokeDeviceMethod(deviceId, moduleId, call) : backEnd.invokeDeviceMethod(deviceId, call));
  return result;
}

/** Calls a method with a body of one's own making, which may be wrong; answers as service.rest. */
const invokeRaw = (identity, body, options) => service.rest('POST', `${twins.path(identity)}/methods`, { body, ...options });

/**
 * Answers each call of `methodName` with what handler(request) returns, {status, payload}; no answer when it returns nothing. Resolves when
 * the hub knows that the client takes methods: the SDK does not tell. The handler is there before that: a call may wait for it already.
 */
async function answer(client, methodName, handler) {
  const subscribed = nextSubscription(client);
  const listen = (client.onDeviceMethod ?? client.onMethod).bind(client);
  listen(methodName, async (request, response) => {
    const given = await handler(request, response);
    // The caller may have its answer, and the test be over, before an AMQP client hears that its answer was taken.
    if (given) await response.send(given.status ?? 200, given.payload ?? null).catch(() => {});
  });
  await subscribed;
}

/** Resolves when the subscription stands that the SDK makes with the next handler. */
function nextSubscription(client) {
  return new Promise((resolve, reject) => {
    client._enableMethods = (callback) => {
      delete client._enableMethods; // the class has it
      client._enableMethods((err) => {
        callback(err);
        if (err) reject(err);
        else resolve();
      });
    };
  });
}

const enable = (client) => promisify(client.transport.enableMethods.bind(client.transport))();

/** Takes no more methods. */
const disable = (client) => promisify(client.transport.disableMethods.bind(client.transport))();

module.exports = { invoke, invokeRaw, answer, enable, disable };
