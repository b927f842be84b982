'use strict';

// The back end: tells every pump to open its valve as soon as it is there, learns from feedback which of them did, and hears of uploads. HUB_CONNECTION_STRING is
// the hub's. With ONCE=1 the program ends when all of them did and an upload was heard of.

const { Client, Registry } = require('azure-iothub');
const { Message } = require('azure-iot-common');

const once = process.env.ONCE === '1';

/** The receiver's messages, each completed once it was handled. */
function follow(receiver, handle) {
  receiver.on('message', (message) => {
    handle(message);
    receiver.complete(message, (err) => { if (err) console.error('not completed:', err.message); });
  });
  receiver.on('errorReceived', (err) => console.error(err.message));
}

async function main() {
  const client = Client.fromConnectionString(process.env.HUB_CONNECTION_STRING);
  const registry = Registry.fromConnectionString(process.env.HUB_CONNECTION_STRING);
  await client.open();
  const { responseBody: devices } = await registry.list();

  const waiting = new Map(); // message id -> device
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  let uploads = 0;
  const check = () => { if (waiting.size === 0 && uploads > 0) finish(); };

  const told = devices.map(({ deviceId }) => {
    const message = new Message('open the valve');
    message.messageId = `valve-${deviceId}`;
    message.ack = 'full';
    waiting.set(message.messageId, deviceId);
    return [deviceId, message];
  });
  follow((await client.getFeedbackReceiver()).result, (message) => {
    for (const record of JSON.parse(message.data)) {
      console.log(`feedback of ${record.deviceId}: ${record.statusCode}`);
      if (record.statusCode === 'Success') waiting.delete(record.originalMessageId);
    }
    check();
  });
  follow((await client.getFileNotificationReceiver()).result, (message) => {
    const file = JSON.parse(message.data);
    console.log(`${file.deviceId} uploaded ${file.blobName}, ${file.blobSizeInBytes} bytes`);
    uploads++;
    check();
  });
  await Promise.all(told.map(([deviceId, message]) => client.send(deviceId, message)));
  console.log(`${told.length} pumps are told to open their valves`);
  if (!once) return;
  await finished;
  await client.close();
  console.log('every valve is open');
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
