'use strict';

// Blob storage: Azurite, as published, with containers that a SAS URI gives access to, as import and export jobs want them.

const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const path = require('node:path');
const { ContainerClient, ContainerSASPermissions, StorageSharedKeyCredential } = require('@azure/storage-blob');

// Azurite's well-known development account.
const ACCOUNT = 'devstoreaccount1';
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const READY_WITHIN_MS = 30_000;
const HOUR_MS = 3_600_000;

/** Azurite on any free port, stopped when the file (or test) ends. */
class Blobs {
  static async open(t) {
    const blobs = new Blobs();
    const main = path.join(path.dirname(require.resolve('azurite/package.json')), 'dist', 'src', 'blob', 'main.js');
    const child = spawn(process.execPath, [main, '--blobPort', '0', '--inMemoryPersistence', '--disableTelemetry', '--skipApiVersionCheck', '--silent'],
      { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => { child.kill('SIGKILL'); });
    blobs.url = await listensAt(child);
    return blobs;
  }

  /** A new container: {uri with all rights, client by that uri, read(name), write(name, text)}. */
  async container() {
    const url = `${this.url}/${ACCOUNT}/c${crypto.randomBytes(6).toString('hex')}`;
    const client = new ContainerClient(url, new StorageSharedKeyCredential(ACCOUNT, KEY));
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

/** The URL that Azurite says it listens at. */
function listensAt(child) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`Azurite does not listen after ${READY_WITHIN_MS} ms: ${said}`)), READY_WITHIN_MS);
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
      const [, url] = said.match(/listens on (http:\S+)/) ?? [];
      if (!url) return;
      clearTimeout(timer);
      resolve(url);
    });
    child.once('exit', (code) => reject(new Error(`Azurite ended with status ${code}: ${said}`)));
  });
}

module.exports = { Blobs };
