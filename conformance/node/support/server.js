'use strict';

// The real command as a process of its own, on the documented ports of an address.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');

const READY_WITHIN_MS = 15_000;
const STOP_WITHIN_MS = 10_000;
const LOG_TAIL_LINES = 80;

class Server {
  #child;
  #log;
  #asked = false;
  #ended = null; // why, once it has

  /** Starts the command; its log is in the directory under its name, its certificates are those of all servers of the directory. */
  static async start(bin, dir, name, address, args) {
    const server = new Server();
    server.address = address;
    server.control = `http://${address}:8088`;
    server.#log = path.join(dir, `${name}.log`);
    const certs = path.join(dir, 'certs');
    const out = fs.openSync(server.#log, 'w');
    server.#child = spawn(bin, [
      'serve', '--bind', address, '--hostname', address, '--control', `${address}:8088`, '--certs-dir', certs, '--strict-ports', ...args,
    ], { stdio: ['ignore', out, out] });
    fs.closeSync(out);
    server.#child.on('error', (err) => { server.#ended = `the hub could not be started: ${err.message}`; });
    server.#child.on('exit', (code, signal) => { server.#ended = `the hub ended with ${signal || `status ${code}`}`; });
    await server.#ready(dir);
    return server;
  }

  async #ready(dir) {
    const deadline = Date.now() + READY_WITHIN_MS;
    while (!(await this.#answers(dir))) {
      if (this.#ended || Date.now() > deadline) {
        const why = this.#ended || `no 200 from ${this.control}/readyz within ${READY_WITHIN_MS} ms`;
        await this.stop();
        throw new Error(`${why}\n${this.tail()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Whether our hub is ready: another one may hold the address already, and answer. */
  async #answers(dir) {
    try {
      if ((await fetch(`${this.control}/readyz`)).status !== 200) return false;
      const info = await (await fetch(`${this.control}/iolite/v1/info`)).json();
      return info.ca.startsWith(dir) && !this.#ended;
    } catch {
      return false;
    }
  }

  /** Asks it to end; answers what was wrong with that, null if nothing. */
  async stop() {
    if (this.#asked) return null;
    this.#asked = true;
    if (this.#ended) return `before the suite was over, ${this.#ended}`;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_WITHIN_MS);
    const [code, signal] = await once(this.#child, 'exit');
    clearTimeout(timer);
    if (code !== 0) return `asked to stop, the hub ended with ${signal || `status ${code}`} instead of 0`;
    return /^panic:|DATA RACE/m.test(fs.readFileSync(this.#log, 'utf8')) ? 'the hub panicked or raced; see its log' : null;
  }

  /** The end of its log. */
  tail() {
    return fs.readFileSync(this.#log, 'utf8').split('\n').slice(-LOG_TAIL_LINES).join('\n');
  }
}

module.exports = { Server };
