'use strict';

// Starts the real command on the documented ports of one loopback address, runs the suite against it with node's own
// test runner, and stops it again. Usage: npm test [-- file ...]
//
//   IOLITE_BIN      the emulator to test; built with `go build` when absent
//   IOLITE_ADDRESS  the loopback address to use; 127.0.0.2 when absent
//   IOLITE_SECOND_ADDRESS  that of the second hub that some tests start; 127.0.0.12 when absent

const { spawn, execFileSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { createAuthority } = require('./support/certificates');
const { Server } = require('./support/server');

const ADDRESS = process.env.IOLITE_ADDRESS || '127.0.0.2';
const SECOND_ADDRESS = process.env.IOLITE_SECOND_ADDRESS || '127.0.0.12';
const FILE_TIMEOUT_MS = 120_000; // a file that hangs, for instance on a socket nobody closed, fails

const SEED = { // YAML, of which JSON is a part
  routing: {
    endpoints: { eventHubs: [{ name: 'seeded', partitions: 2 }] },
    routes: [{ name: 'seeded', source: 'DeviceMessages', condition: "seeded = 'yes'", endpointNames: ['seeded'] }],
  },
};

main().then(
  (code) => { process.exitCode = code; },
  (err) => { console.error(err.message); process.exitCode = 1; });

async function main() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'iolite-node-'));
  try {
    const bin = binary(dir);
    const hub = await startHub(bin, dir);
    try {
      const code = await runTests(bin, dir, process.argv.slice(2));
      const fault = await hub.stop();
      if (fault) console.error(fault);
      if (code !== 0 || fault) console.error(`--- last lines of the hub's log ---\n${hub.tail()}`);
      return code || (fault ? 1 : 0);
    } finally {
      await hub.stop();
    }
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

function binary(dir) {
  if (process.env.IOLITE_BIN) return path.resolve(process.env.IOLITE_BIN);
  const bin = path.join(dir, 'emulator');
  execFileSync('go', ['build', '-o', bin, './cmd/emulator'], { cwd: path.join(__dirname, '..', '..'), stdio: 'inherit' });
  return bin;
}

async function startHub(bin, dir) {
  const authority = createAuthority('Iolite conformance device CA');
  fs.writeFileSync(path.join(dir, 'device-ca.json'), JSON.stringify(authority));
  fs.writeFileSync(path.join(dir, 'device-ca.pem'), authority.cert);
  const seed = path.join(dir, 'seed.json');
  fs.writeFileSync(seed, JSON.stringify(SEED));
  const server = await Server.start(bin, dir, 'hub', ADDRESS, [
    '--device', 'conformance-node',
    '--x509-ca', path.join(dir, 'device-ca.pem'),
    '--consumer-group', 'configured',
    '--seed', seed,
  ]);
  const ca = await fetch(`${server.control}/iolite/v1/ca.pem`);
  if (!ca.ok) throw new Error(`GET /iolite/v1/ca.pem answered ${ca.status}`);
  // Of storage with a certificate of its own, for which the authority of the devices is good enough.
  fs.writeFileSync(path.join(dir, 'hub-ca.pem'), await ca.text() + authority.cert);
  return server;
}

// One process per file, one file at a time, in the order of their paths: tests/steady before tests/time, whose files move
// the hub's clock, which every other client of the hub would notice.
async function runTests(bin, dir, files) {
  if (files.length === 0) files = testFiles(path.join(__dirname, 'tests'));
  const child = spawn(process.execPath, ['--test', '--test-concurrency=1', '--test-reporter=spec', `--test-timeout=${FILE_TIMEOUT_MS}`, ...files], {
    stdio: 'inherit',
    env: {
      ...process.env,
      IOLITE_CONTROL: `http://${ADDRESS}:8088`,
      IOLITE_BIN: bin,
      IOLITE_DIR: dir,
      IOLITE_SECOND_ADDRESS: SECOND_ADDRESS,
      IOLITE_DEVICE_CA: path.join(dir, 'device-ca.json'),
      // Read once, when node starts: this is why the suite is a child process.
      NODE_EXTRA_CA_CERTS: path.join(dir, 'hub-ca.pem'),
    },
  });
  const [code, signal] = await once(child, 'exit');
  return signal ? 1 : code;
}

function testFiles(dir) {
  return fs.readdirSync(dir, { withFileTypes: true })
    .flatMap((entry) => entry.isDirectory() ? testFiles(path.join(dir, entry.name)) : [path.join(dir, entry.name)])
    .filter((file) => file.endsWith('.test.js'));
}
