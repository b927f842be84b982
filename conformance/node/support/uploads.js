'use strict';

// File uploads, from both sides.

const { Readable } = require('node:stream');
const { BlockBlobClient } = require('@azure/storage-blob');
const hub = require('./hub');
const service = require('./service');
const { token } = require('./credentials');

/** Uploads bytes as devices do, with one call of the SDK. */
const upload = (client, blobName, bytes) => client.uploadToBlob(blobName, Readable.from([bytes], { objectMode: false }), bytes.length);

/** Completes an upload by hand: of a refusal, the SDK tells its text only. Answers as service.isRefused wants it. */
async function complete({ host, deviceId, key }, body, path = 'notifications') {
  const response = await fetch(`https://${host}/devices/${encodeURIComponent(deviceId)}/files/${path}?api-version=2021-04-12`, {
    method: 'POST', headers: { authorization: token(`${host}/devices/${deviceId}`, key), 'content-type': 'application/json' }, body: JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** Where the answer to an upload request says that the file belongs. */
const uriOf = ({ hostName, containerName, blobName, sasToken }) => `https://${hostName}/${containerName}/${blobName.split('/').map(encodeURIComponent).join('/')}${sasToken}`;

/** The storage SDK's client of that place. */
const blobOf = (begun) => new BlockBlobClient(uriOf(begun), undefined, { retryOptions: { maxTries: 1 } });

/** What the storage holds under the name now, read with a SAS of its own: begins an upload and gives it up again. */
async function read(client, blobName) {
  const begun = await client.getBlobSharedAccessSignature(blobName);
  try {
    return await blobOf(begun).downloadToBuffer();
  } finally {
    await client.notifyBlobUploadStatus(begun.correlationId, false, 0, 'only read');
  }
}

/** The notifications of file uploads that a back end gets. There is one queue of them per hub, so one of these at a time. */
class Notifications {
  #all = [];

  static async open(t, options) {
    const notifications = new Notifications();
    const client = await service.connect(t, options);
    notifications.close = () => client.close();
    notifications.receiver = (await client.getFileNotificationReceiver()).result;
    notifications.receiver.on('message', (message) => {
      notifications.#all.push({ ...JSON.parse(message.getData().toString()), message });
      notifications.receiver.complete(message, () => {});
    });
    return notifications;
  }

  /** All so far about one device. */
  about({ deviceId }) {
    return this.#all.filter((one) => one.deviceId === deviceId);
  }

  /** Waits for so many about one device. */
  of(device, count = 1) {
    return hub.until(`there are ${count} notifications about ${device.deviceId}`, () => {
      const found = this.about(device);
      return found.length >= count && found;
    });
  }
}

module.exports = { upload, complete, uriOf, blobOf, read, Notifications };
