'use strict';

// From the connection string of an IoT hub to that of its Event Hubs-compatible endpoint, on the way that the samples of @azure/event-hubs
// show: a link to the hub's own messages/events is refused, and the refusal tells where to go.

const { Connection, parseConnectionString } = require('rhea-promise');
const { token } = require('./credentials');

async function eventHubsConnectionString(hubConnectionString) {
  const { HostName: host, SharedAccessKeyName: policy, SharedAccessKey: key } = parseConnectionString(hubConnectionString);
  const connection = new Connection({
    transport: 'tls', host, hostname: host, port: 5671, reconnect: false,
    username: `${policy}@sas.root.${host.split('.')[0]}`,
    password: token(`${host}/messages/events`, key, { policy, lifetime: 300 }),
  });
  await connection.open();
  try {
    const refusal = await refusalOf(connection, `amqps://${host}/messages/events/$management`);
    if (refusal.condition !== 'amqp:link:redirect') throw refusal;
    const { hostname, address } = refusal.info;
    const [, entity] = /:\d+\/(.*)\/\$management/i.exec(address);
    return `Endpoint=sb://${hostname}/;EntityPath=${entity};SharedAccessKeyName=${policy};SharedAccessKey=${key}`;
  } finally {
    await connection.close();
  }
}

/** The error with which a link to the address is refused. */
function refusalOf(connection, address) {
  return new Promise((resolve, reject) => {
    const onError = (context) => resolve(context.receiver.error);
    connection.createReceiver({ source: { address }, credit_window: 0, onError }).then((receiver) => {
      if (receiver.error) resolve(receiver.error);
    }, (err) => (err.condition ? resolve(err) : reject(err)));
  });
}

module.exports = { eventHubsConnectionString };
