'use strict';

// Things that arrive, taken one by one in the order in which they came.

class Inbox {
  #arrived = [];
  #waiting = [];
  #failure = null;

  constructor(what) {
    this.what = what;
  }

  put(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.#arrived.push(item);
  }

  /** Makes every present and future take fail. */
  fail(err) {
    this.#failure = err;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(err);
  }

  /** The next item; waits for it, at most `withinMs`. */
  take(withinMs = 10_000) {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(new Error(`no ${this.what} within ${withinMs} ms`));
      }, withinMs);
      const waiter = {
        resolve: (item) => { clearTimeout(timer); resolve(item); },
        reject: (err) => { clearTimeout(timer); reject(err); },
      };
      this.#waiting.push(waiter);
    });
  }

  async takeMany(count, withinMs) {
    const items = [];
    while (items.length < count) items.push(await this.take(withinMs));
    return items;
  }

  /** What has arrived and nobody took. */
  get left() { return this.#arrived.length; }
}

/** The cloud-to-device messages that reach a device client. Over HTTPS they come only after client.transport.receive(). */
function messagesOf(client) {
  const inbox = new Inbox('cloud-to-device message');
  client.on('message', (message) => inbox.put(message));
  client.on('error', (err) => inbox.fail(err));
  return inbox;
}

module.exports = { Inbox, messagesOf };
