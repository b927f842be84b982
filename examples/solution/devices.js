'use strict';

// Five pumps, one on each of the hub's doors: telemetry every second, messages from the back end, and a log file that one of them uploads.
// DEVICE_HOST is the hub's name; keys come from the hub's control API at HUB_CONTROL, since this is a development hub. With ONCE=1 the program ends
// as soon as each pump has been told something by the back end.

const { Client, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');
const { Http } = require('azure-iot-device-http');

const PUMPS = { 'pump-mqtt': Mqtt, 'pump-mqtt-ws': MqttWs, 'pump-amqp': Amqp, 'pump-amqp-ws': AmqpWs, 'pump-https': Http };
const once = process.env.ONCE === '1';

class Pump {
  constructor(id, transport, connectionString) {
    this.id = id;
    this.client = Client.fromConnectionString(connectionString, transport);
    this.told = new Promise((resolve) => { this.hear = resolve; });
  }

  async start() {
    await this.client.open();
    if (this.id === 'pump-https') await this.client.setTransportOptions({ interval: 5 }); // seconds; a real hub wants 1500 or more
    this.client.on('message', (message) => {
      console.log(`${this.id} was told: ${message.data}`);
      this.client.complete(message, (err) => {
        if (err) console.error(`${this.id} could not complete:`, err.message);
        else this.hear();
      });
    });
    this.client.on('error', (err) => console.error(`${this.id}:`, err.message));
    this.timer = setInterval(() => this.send().catch((err) => console.error(`${this.id} could not send:`, err.message)), 1000);
    await this.send();
  }

  send() {
    const temperature = Math.round(600 + Math.random() * 350) / 10;
    return this.measured(this.first ? temperature : 95); // the first measurement is an alert
  }

  measured(temperature) {
    this.first = true;
    const message = new Message(JSON.stringify({ temperature, at: new Date().toISOString() }));
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('door', this.id.slice('pump-'.length));
    return this.client.sendEvent(message);
  }

  async upload(name, text) {
    const { Readable } = require('node:stream');
    await this.client.uploadToBlob(name, Readable.from([text]), Buffer.byteLength(text));
    console.log(`${this.id} uploaded ${name}`);
  }

  async stop() {
    clearInterval(this.timer);
    await this.client.close();
  }
}

/** The connection strings of the hub's devices, by id. */
async function connectionStrings() {
  const response = await fetch(`http://${process.env.HUB_CONTROL}/iolite/v1/info`);
  const info = await response.json();
  return Object.fromEntries(info.devices.map((d) => [d.deviceId, d.connectionString]));
}

async function main() {
  const strings = await connectionStrings();
  const pumps = Object.entries(PUMPS).map(([id, transport]) => new Pump(id, transport, strings[id]));
  await Promise.all(pumps.map((pump) => pump.start()));
  console.log(`${pumps.length} pumps are running`);
  await pumps[0].upload('start.log', `started ${new Date().toISOString()}\n`);
  if (!once) return;
  await Promise.all(pumps.map((pump) => pump.told));
  await Promise.all(pumps.map((pump) => pump.stop()));
  console.log('every pump was told something');
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
