'use strict';

// The five ways a Node device can reach the hub. `can` says what its protocol offers, for tests that need it.

const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');
const { Http } = require('azure-iot-device-http');

const DOORS = [
  { name: 'MQTT', Transport: Mqtt, protocol: 'mqtt' },
  { name: 'MQTT over WebSocket', Transport: MqttWs, protocol: 'mqtt' },
  { name: 'AMQP', Transport: Amqp, protocol: 'amqp' },
  { name: 'AMQP over WebSocket', Transport: AmqpWs, protocol: 'amqp' },
  { name: 'HTTPS', Transport: Http, protocol: 'http' },
];

const speaking = (...protocols) => DOORS.filter((door) => protocols.includes(door.protocol));

module.exports = { DOORS, speaking };
