'use strict';

// The running hub: what it says about itself and how a test moves its clock, all over the control API.

const CONTROL = process.env.IOLITE_CONTROL;
if (!CONTROL) throw new Error('there is no hub to test: start the suite with `npm test`');

/** A request to the control API, whatever the answer; `options` are those of fetch. */
const request = (method, path, options = {}) => fetch(CONTROL + path, { method, ...options });

async function control(method, path, body) {
  const json = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const response = await request(method, path, json);
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** Moves the hub's clock ahead by a Go duration such as '61s' or '25m'. */
const advance = (duration) => control('POST', '/iolite/v1/clock', { advance: duration });

/** The hub's present time as a Date. */
async function now() {
  const clock = await control('GET', '/iolite/v1/clock');
  return new Date(clock.now);
}

const info = () => control('GET', '/iolite/v1/info');

/** The HTTP poll violations of one device. */
async function violations(deviceId) {
  const { violations } = await control('GET', '/iolite/v1/violations');
  return violations.filter((v) => v.deviceId === deviceId);
}

/** The live connections of one device. */
async function connections(deviceId) {
  const { connections } = await control('GET', '/iolite/v1/connections');
  return connections.filter((c) => c.deviceId === deviceId);
}

/** Cuts every connection of one device. */
const disconnect = (deviceId) => control('DELETE', `/iolite/v1/connections/${encodeURIComponent(deviceId)}`);

/** Waits until check() answers something truthy and returns that. */
async function until(what, check, withinMs = 5_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const answer = await check();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`still not so after ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

module.exports = { request, control, advance, now, info, violations, connections, disconnect, until };
