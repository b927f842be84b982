'use strict';

// Subscriptions of the Event Hubs SDK to one partition, each in full view: what it read, what it was told, how it ended.

const devices = require('./devices');
const hub = require('./hub');
const service = require('./service');
const { speaking } = require('./doors');
const { Inbox } = require('./inbox');
const { Reader, consumer } = require('./telemetry');

const [HTTPS] = speaking('http');
const NOT_AGAIN = { updateIntervalInMs: 3_600_000 }; // a subscription that ended is not made anew by the SDK

/**
 * Subscribes to a partition. Options are those of subscribe(), and `group`, `connectionString`, `client` (further options of the client),
 * `store` (of checkpoints), `of` (a device: its events only) and `process(events, context)`, called before the events are in the Inbox.
 */
class Subscription {
  constructor(t, partitionId, { group, connectionString, client, store, of, process = async () => {}, ...options } = {}) {
    this.events = new Inbox('event');
    this.errors = new Inbox('error');
    this.ends = new Inbox('end of a subscription');
    this.client = consumer(t, { group, connectionString, store, loadBalancingOptions: NOT_AGAIN, ...client });
    this.client.subscribe(partitionId, {
      processEvents: async (events, context) => {
        await process(events, context);
        for (const event of events) {
          if (!of || event.systemProperties['iothub-connection-device-id'] === of.deviceId) this.events.put({ ...event, context });
        }
      },
      processError: async (err) => {
        this.errors.put(err);
        this.events.fail(err);
      },
      processClose: async (reason) => { this.ends.put(reason); },
    }, { maxWaitTimeInSeconds: 0.2, ...options });
  }

  /** Breaks its connection with no goodbye of AMQP. */
  tear() {
    this.client._context.connection._connection.socket.destroy(new Error('torn by the test'));
  }
}

/** The code of the error that a subscription ends with before it has read anything. */
async function refusal(t, partitionId, options) {
  const subscription = new Subscription(t, partitionId, options);
  return Promise.race([
    subscription.errors.take().then((err) => err.code),
    subscription.events.take().then((event) => `none: it reads ${event.offset}`, () => new Promise(() => {})),
  ]);
}

/** A device, the partition its events are in, and all of those, as a reader of everything got them. */
class Talker {
  static async open(t, reader) {
    const talker = new Talker();
    talker.device = await devices.create();
    talker.client = await devices.connect(t, HTTPS, talker.device);
    talker.reader = reader ?? await Reader.open(t);
    talker.sent = [];
    await talker.say(1);
    talker.partitionId = talker.sent[0].partitionId;
    return talker;
  }

  /** One of them for each partition, in the order of the partitions' ids. */
  static async forEachPartition(t) {
    const reader = await Reader.open(t);
    const ids = await consumer(t).getPartitionIds();
    const found = new Map();
    while (found.size < ids.length) {
      const talker = await Talker.open(t, reader);
      found.set(talker.partitionId, talker);
    }
    return ids.map((id) => found.get(id));
  }

  /** Sends more events, numbered on from the last in {"index": n}, and waits until they can be read. */
  async say(count) {
    const from = this.sent.length;
    await this.client.sendEventBatch(Array.from({ length: count }, (_, i) => service.message(JSON.stringify({ index: from + i }))));
    this.sent.push(...await this.reader.of(this.device.deviceId).takeMany(count));
  }

  /** Makes sure that what comes now is enqueued later than all before. */
  async pause() {
    const { enqueuedTimeUtc } = this.sent.at(-1);
    await hub.until('the clock has ticked', async () => (await hub.now()) - enqueuedTimeUtc > 1);
  }

  /** The position of the first event. */
  get start() { return { sequenceNumber: this.sent[0].sequenceNumber, isInclusive: true }; }
}

const index = (event) => event.body.index;

/** [from, ... end-1]: what index() of all events of a Talker is that has sent `end` of them. */
const upTo = (end, from = 0) => Array.from({ length: end - from }, (_, i) => from + i);

module.exports = { Subscription, refusal, Talker, index, upTo };
