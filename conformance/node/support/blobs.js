'use strict';

// Blob storage: Azurite, as published, with containers that a SAS URI gives access to, as import and export jobs want them.

const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { ContainerClient, ContainerSASPermissions, StorageSharedKeyCredential } = require('@azure/storage-blob');
const { createServer } = require('./certificates');

// Azurite's well-known development account.
const ACCOUNT = 'devstoreaccount1';
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const READY_WITHIN_MS = 30_000;
const HOUR_MS = 3_600_000;

/** Azurite on any free port, stopped when the file (or test) ends: over HTTPS, or in its loose mode, if asked. */
class Blobs {
  static async open(t, { https = false, loose = false } = {}) {
    const blobs = new Blobs();
    const options = [...(https ? certificate(t) : []), ...(loose ? ['--loose'] : [])];
    const main = path.join(path.dirname(require.resolve('azurite/package.json')), 'dist', 'src', 'blob', 'main.js');
    const child = spawn(process.execPath, [main, '--blobPort', '0', '--inMemoryPersistence', '--disableTelemetry', '--skipApiVersionCheck', '--silent', ...options],
      { stdio: ['ignore', 'pipe', 'inherit'] });
    blobs.close = () => {
      const gone = child.exitCode === null && child.signalCode === null && once(child, 'exit');
      child.kill('SIGKILL');
      return gone;
    };
    t.after(() => blobs.close());
    blobs.url = await listensAt(child);
    return blobs;
  }

  /** The connection string of the account. */
  get connectionString() {
    const protocol = new URL(this.url).protocol.slice(0, -1);
    return `DefaultEndpointsProtocol=${protocol};AccountName=${ACCOUNT};AccountKey=${KEY};BlobEndpoint=${this.url}/${ACCOUNT};`;
  }

  /** The storage SDK's client of a container, with the account's key. */
  containerClient(name) {
    return new ContainerClient(`${this.url}/${ACCOUNT}/${name}`, new StorageSharedKeyCredential(ACCOUNT, KEY));
  }

  /** A new container: {uri with all rights, client by that uri, read(name), write(name, text)}. */
  async container() {
    const client = this.containerClient(`c${crypto.randomBytes(6).toString('hex')}`);
    await client.create();
    const uri = await client.generateSasUrl({ permissions: ContainerSASPermissions.parse('rwdl'), expiresOn: new Date(Date.now() + HOUR_MS) });
    return {
      uri,
      client: new ContainerClient(uri),
      read: async (name) => (await client.getBlobClient(name).downloadToBuffer()).toString(),
      write: (name, text) => client.getBlockBlobClient(name).upload(text, Buffer.byteLength(text)),
    };
  }
}

/** The options with a certificate that the suite trusts. */
function certificate(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'iolite-azurite-'));
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  const { cert, key } = createServer('127.0.0.1', JSON.parse(fs.readFileSync(process.env.IOLITE_DEVICE_CA, 'utf8')));
  return Object.entries({ cert, key }).flatMap(([option, pem]) => {
    const file = path.join(dir, `${option}.pem`);
    fs.writeFileSync(file, pem);
    return [`--${option}`, file];
  });
}

/** The URL that Azurite says it listens at. */
function listensAt(child) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`Azurite does not listen after ${READY_WITHIN_MS} ms: ${said}`)), READY_WITHIN_MS);
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
      const [, url] = said.match(/listens on (https?:\S+)/) ?? [];
      if (!url) return;
      clearTimeout(timer);
      resolve(url);
    });
    child.once('exit', (code) => reject(new Error(`Azurite ended with status ${code}: ${said}`)));
  });
}

module.exports = { Blobs };
