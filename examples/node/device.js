// A device: sends telemetry every second, or as often as its twin's desired property "interval" says; answers the direct method "reboot";
// prints the messages it is sent. Set IOTHUB_DEVICE_CONNECTION_STRING to what
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

  client.onDeviceMethod('reboot', (request, response) => {
    console.log('reboot', request.payload);
    response.send(200, { restarting: true }, () => {});
  });

  let interval = 1; // seconds
  const twin = await client.getTwin();
  twin.on('properties.desired', (desired) => {
    interval = desired.interval || interval;
    twin.properties.reported.update({ interval }, (err) => console.log('interval', interval, err || 'reported'));
  });

  for (let n = 0; n < Number(process.env.COUNT || 1e6); n++) {
    await client.sendEvent(new Message(JSON.stringify({ n })));
    console.log('sent', n);
    await new Promise((resolve) => setTimeout(resolve, interval * 1000));
  }
  await client.close();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
