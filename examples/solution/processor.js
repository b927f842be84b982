'use strict';

// The processor: reads what the pumps send, keeps its place in Blob storage, and shows the last of each pump on a page at DASHBOARD_PORT; prints alerts,
// which a route brings to an event hub of their own. With ONCE=1 the program ends when it has seen every pump, an alert, and its own checkpoints.

const http = require('node:http');
const { EventHubConsumerClient, earliestEventPosition } = require('@azure/event-hubs');
const { ContainerClient } = require('@azure/storage-blob');
const { BlobCheckpointStore } = require('@azure/eventhubs-checkpointstore-blob');

const { EVENTHUB_CONNECTION_STRING, STORAGE_CONNECTION_STRING, DASHBOARD_PORT = '8090', DASHBOARD_HOST = '127.0.0.1' } = process.env;
const PUMPS = 5;
const once = process.env.ONCE === '1';

const last = new Map(); // device -> its last event
const alerts = [];
const checkpoints = new Set(); // partitions
let finish;
const finished = new Promise((resolve) => { finish = resolve; });
const check = () => { if (last.size === PUMPS && alerts.length > 0 && checkpoints.size > 0) finish(); };

async function telemetry(events, context) {
  for (const event of events) {
    last.set(event.systemProperties['iothub-connection-device-id'], { ...event.body, ...event.properties });
  }
  if (events.length === 0) return;
  await context.updateCheckpoint(events.at(-1));
  checkpoints.add(context.partitionId);
  check();
}

async function alert(events) {
  for (const event of events) {
    const device = event.systemProperties['iothub-connection-device-id'];
    console.log(`ALERT: ${device} at ${event.properties.site} has ${event.body.temperature} degrees`);
    alerts.push({ device, ...event.body });
  }
  check();
}

const failed = async (err) => console.error(err.message);

function dashboard() {
  const escape = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  return http.createServer((request, response) => {
    const rows = [...last].sort().map(([device, e]) => `<tr><td>${escape(device)}<td>${escape(e.site)}<td>${escape(e.temperature)}<td>${escape(e.at)}`);
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.end(`<!doctype html><title>Pumps</title><meta http-equiv="refresh" content="2"><h1>Pumps</h1>
<table><tr><th>pump<th>site<th>temperature<th>at${rows.join('\n')}</table><p>${alerts.length} alerts`);
  }).listen(Number(DASHBOARD_PORT), DASHBOARD_HOST);
}

async function main() {
  const container = new ContainerClient(STORAGE_CONNECTION_STRING, 'checkpoints');
  await container.createIfNotExists();
  const events = new EventHubConsumerClient('dashboard', EVENTHUB_CONNECTION_STRING, new BlobCheckpointStore(container));
  const alertHub = new EventHubConsumerClient('on-call', EVENTHUB_CONNECTION_STRING.replace(/EntityPath=[^;]*/, 'EntityPath=alerts'));
  events.subscribe({ processEvents: telemetry, processError: failed }, { startPosition: earliestEventPosition });
  alertHub.subscribe({ processEvents: alert, processError: failed }, { startPosition: earliestEventPosition });
  const page = dashboard();
  console.log(`dashboard: http://${DASHBOARD_HOST}:${DASHBOARD_PORT}`);
  if (!once) return;
  await finished;
  page.close();
  page.closeAllConnections();
  await Promise.all([events.close(), alertHub.close()]);
  console.log(`seen: ${[...last.keys()].sort().join(', ')}; ${alerts.length} alerts; checkpoints of partitions ${[...checkpoints].sort()}`);
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
