'use strict';

// From the connection string of an IoT hub to that of its Event Hubs-compatible endpoint, on the way that the samples of @azure/event-hubs
// show: a link to the hub's own messages/events is refused, and the refusal tells where to go.

const { parseConnectionString } = require('rhea-promise');
const amqp = require('./amqp');

async function eventHubsConnectionString(hubConnectionString) {
  const { HostName: host, SharedAccessKeyName: policy, SharedAccessKey: key } = parseConnectionString(hubConnectionString);
  const connection = await amqp.connect({ host, policy, key }, 'messages/events');
  try {
    const refusal = await amqp.refusalOf(connection, `amqps://${host}/messages/events/$management`);
    if (refusal.condition !== 'amqp:link:redirect') throw refusal;
    const { hostname, address } = refusal.info;
    const [, entity] = /:\d+\/(.*)\/\$management/i.exec(address);
    return `Endpoint=sb://${hostname}/;EntityPath=${entity};SharedAccessKeyName=${policy};SharedAccessKey=${key}`;
  } finally {
    await connection.close();
  }
}

module.exports = { eventHubsConnectionString };
