'use strict';

// The two kinds of identity that have a twin and take direct methods: devices, and modules in them.

const devices = require('./devices');
const modules = require('./modules');

const PEERS = [
  { kind: 'device', create: () => devices.create(), client: devices.client, connect: devices.connect },
  { kind: 'module', create: () => modules.create(), client: modules.client, connect: modules.connect },
];

module.exports = { PEERS };
