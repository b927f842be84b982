// A device: sends telemetry once a second and prints the messages it is sent. Set IOTHUB_DEVICE_CONNECTION_STRING to what
// `emulator devices connection-string device1` prints, and trust the CA: eval "$(emulator certs env)".
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

async function main() {
  const client = Client.fromConnectionString(process.env.IOTHUB_DEVICE_CONNECTION_STRING, Mqtt);
  client.on('message', (m) => {
    console.log('received', m.data.toString());
    client.complete(m, () => {});
  });
  await client.open();
  for (let n = 0; n < Number(process.env.COUNT || 1e6); n++) {
    await client.sendEvent(new Message(JSON.stringify({ n })));
    console.log('sent', n);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  await client.close();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
