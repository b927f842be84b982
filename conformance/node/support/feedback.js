'use strict';

const hub = require('./hub');
const service = require('./service');

/** Everything the feedback receiver of a back end gets. There is one feedback queue per hub, so one of these at a time. */
class Feedback {
  #records = [];

  static async open(t, options) {
    const feedback = new Feedback();
    const client = await service.connect(t, options);
    feedback.close = () => client.close();
    feedback.receiver = (await client.getFeedbackReceiver()).result;
    feedback.receiver.on('message', (batch) => {
      feedback.#records.push(...JSON.parse(batch.getData().toString()));
      feedback.receiver.complete(batch);
    });
    return feedback;
  }

  /** All records so far about one message. */
  about(messageId) {
    return this.#records.filter((record) => record.originalMessageId === messageId);
  }

  /** Waits for the record about a message. */
  async of(messageId) {
    const [record] = await hub.until(`there is feedback about ${messageId}`, async () => {
      const found = this.about(messageId);
      return found.length > 0 && found;
    });
    return record;
  }
}

module.exports = { Feedback };
