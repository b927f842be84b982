'use strict';

// Event processors as back ends run them: EventHubConsumerClient with the blob checkpoint store, each in a process of its own
// (processor-process.js), so that it can die.

const { fork } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const service = require('./service');
const hub = require('./hub');
const { Inbox } = require('./inbox');

const PROGRAM = path.join(__dirname, 'processor-process.js');

/**
 * Azurite dates blobs in whole seconds, so an ownership may look a second older than it is: it ends after three, and is renewed ten times a
 * second.
 */
const BALANCING = { strategy: 'greedy', updateIntervalInMs: 100, partitionOwnershipExpirationIntervalInMs: 3_000 };

class Processor {
  #child;

  /** Starts one. Options: `container` (URI, for checkpoints), `group`, `name`, `startPosition`, and `stallAfter`: see processor-process.js. */
  static async start(t, options) {
    const processor = new Processor();
    processor.name = options.name;
    processor.seen = []; // {partitionId, sequenceNumber, turn}, in the order in which it got them
    processor.open = new Set(); // the partitions that it reads, as it was told
    processor.lost = new Inbox('partition lost to another'); // its id
    processor.turns = new Map(); // how often it has got a partition
    processor.stalled = new Set(); // partitions whose events it does not come back from
    const child = fork(PROGRAM, [JSON.stringify({ connectionString: service.eventHubs, balancing: BALANCING, ...options })]);
    processor.#child = child;
    t.after(() => { child.kill('SIGKILL'); });
    child.on('message', (report) => processor.#take(report));
    await once(child, 'message'); // it runs
    return processor;
  }

  #take({ seen, opened, closed, reason, stalled }) {
    if (seen) this.seen.push(...seen.map((event) => ({ ...event, turn: this.turns.get(event.partitionId) })));
    if (opened) {
      this.open.add(opened);
      this.turns.set(opened, (this.turns.get(opened) ?? 0) + 1);
    }
    if (closed) this.open.delete(closed);
    if (reason === 'OwnershipLost') this.lost.put(closed);
    if (stalled) this.stalled.add(stalled);
  }

  /** It is gone, without a word to anybody. */
  async die() {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** It ends as it should: what it owned is free. */
  async stop() {
    const gone = once(this.#child, 'exit');
    this.#child.send('stop');
    await gone;
  }

  /** It hangs, its connections open. */
  hang() { this.#child.kill('SIGSTOP'); }

  /** It runs on. */
  wake() { this.#child.kill('SIGCONT'); }

  /** The sequence numbers that it has seen of a partition, in whichever turn. */
  of(partitionId) { return this.seen.filter((event) => event.partitionId === partitionId).map((event) => event.sequenceNumber); }

  /** The events that it skipped in one turn with a partition; there should be none. */
  get skipped() {
    const last = new Map();
    return this.seen.filter(({ partitionId, turn, sequenceNumber }) => {
      const key = `${partitionId}/${turn}`;
      const before = last.get(key) ?? sequenceNumber - 1;
      last.set(key, sequenceNumber);
      return sequenceNumber !== before + 1;
    });
  }
}

/** Waits until each of the processors reads so many partitions, and no two the same. */
const shared = (...wanted) => hub.until(`the processors read ${wanted.map(([, count]) => count).join(' and ')} partitions`, () => {
  const all = wanted.flatMap(([processor]) => [...processor.open]);
  return new Set(all).size === all.length && wanted.every(([processor, count]) => processor.open.size === count);
}, 15_000);

module.exports = { Processor, shared };
