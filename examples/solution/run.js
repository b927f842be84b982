'use strict';

// Runs the whole solution on this machine, without Docker: the hub, Azurite, the processor, the back end and the pumps, until it is interrupted. With --once it
// ends with status 0 as soon as the processor, the back end and the pumps have seen everything they wait for, and with 1 when that takes longer than a minute.
//
//   IOLITE_BIN      the emulator; built with `go build` when absent
//   IOLITE_ADDRESS  the loopback address of everything; 127.0.0.1 when absent

const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const ADDRESS = process.env.IOLITE_ADDRESS || '127.0.0.1';
const CONTROL = `${ADDRESS}:8088`;
const ONCE = process.argv.includes('--once');
const LIMIT_MS = 60_000;
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'iolite-solution-'));

// Azurite's well-known development account.
const STORAGE = `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint=http://${ADDRESS}:10000/devstoreaccount1;`;

const parts = new Map(); // name -> child process

/** Starts a part; each of its lines goes to our output, with its name. What the hub greets with is left out: its log is not. */
function start(name, command, args, env = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', name === 'hub' ? 'ignore' : 'pipe', 'pipe'] });
  parts.set(name, child);
  for (const out of [child.stdout, child.stderr].filter(Boolean)) {
    let rest = '';
    out.on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) console.log(`${name.padEnd(9)} | ${line}`);
    });
  }
  child.on('error', (err) => console.error(`${name.padEnd(9)} | ${err.message}`));
  child.ended = new Promise((resolve) => {
    child.on('error', () => resolve(1));
    child.on('exit', (code, signal) => resolve(signal ? 1 : code));
  });
  return child;
}

function binary() {
  if (process.env.IOLITE_BIN) return path.resolve(process.env.IOLITE_BIN);
  const bin = path.join(dir, 'emulator');
  execFileSync('go', ['build', '-o', bin, './cmd/emulator'], { cwd: path.join(__dirname, '..', '..'), stdio: 'inherit' });
  return bin;
}

/** Waits until url answers and ok says yes to it. */
async function until(url, ok, part) {
  for (;;) {
    try {
      if (ok(await fetch(url))) return;
    } catch { /* not yet */ }
    if (parts.get(part).exitCode !== null) throw new Error(`${part} has ended`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function run() {
  start('hub', binary(), ['serve', '--bind', ADDRESS, '--hostname', ADDRESS, '--control', CONTROL, '--strict-ports', '--http-poll', 'log',
    '--certs-dir', path.join(dir, 'certs'), '--seed', path.join(__dirname, 'hub.yaml'), '--log-level', 'warn']);
  start('azurite', process.execPath, [path.join(path.dirname(require.resolve('azurite/package.json')), 'dist', 'src', 'blob', 'main.js'),
    '--blobHost', ADDRESS, '--inMemoryPersistence', '--disableTelemetry', '--skipApiVersionCheck', '--silent']);
  await until(`http://${CONTROL}/readyz`, (r) => r.ok, 'hub');
  await until(`http://${ADDRESS}:10000/`, () => true, 'azurite'); // it refuses the request, so it is there

  const info = await (await fetch(`http://${CONTROL}/iolite/v1/info`)).json();
  const env = {
    HUB_CONTROL: CONTROL,
    HUB_CONNECTION_STRING: info.connectionString,
    EVENTHUB_CONNECTION_STRING: info.eventHubsConnectionString,
    STORAGE_CONNECTION_STRING: STORAGE,
    DASHBOARD_HOST: ADDRESS,
    NODE_EXTRA_CA_CERTS: path.join(dir, 'certs', 'ca.pem'),
    ONCE: ONCE ? '1' : '',
  };
  const ours = ['processor', 'backend', 'devices'].map((name) => [name, start(name, process.execPath, [path.join(__dirname, `${name}.js`)], env)]);
  await Promise.all(ours.map(async ([name, child]) => {
    const code = await child.ended;
    if (code !== 0) throw new Error(`${name} has failed`);
  }));
}

function stop() {
  for (const child of parts.values()) child.kill('SIGTERM');
  fs.rmSync(dir, { recursive: true, force: true });
}

process.on('SIGINT', () => { stop(); process.exit(0); });
process.on('SIGTERM', () => { stop(); process.exit(0); });
if (ONCE) {
  setTimeout(() => {
    const waiting = ['processor', 'backend', 'devices'].filter((name) => parts.get(name)?.exitCode === null);
    console.error(`after ${LIMIT_MS / 1000} seconds these are not done: ${waiting.join(', ')}`);
    stop();
    process.exit(1);
  }, LIMIT_MS).unref();
}

run().then(() => {
  stop();
  console.log('everything was seen');
  process.exit(0);
}, (err) => {
  console.error(err.message);
  stop();
  process.exit(1);
});
