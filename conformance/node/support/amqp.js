'use strict';

// A plain AMQP client (rhea) at the hub's own address, for what the SDKs hide: it signs in by SASL PLAIN, with a policy's name and a token.

const { Connection } = require('rhea-promise');
const { Inbox } = require('./inbox');
const { token } = require('./credentials');

/** An open connection under a policy whose token is over `resource`, below the host. The caller closes it. */
async function connect({ host, policy, key }, resource) {
  const connection = new Connection({
    transport: 'tls', host, hostname: host, port: 5671, reconnect: false,
    username: `${policy}@sas.root.${host.split('.')[0]}`,
    password: token(`${host}/${resource}`, key, { policy }),
  });
  await connection.open();
  return connection;
}

/** The error with which a link from the address is refused. */
function refusalOf(connection, address) {
  return new Promise((resolve, reject) => {
    const onError = (context) => resolve(context.receiver.error);
    connection.createReceiver({ source: { address }, credit_window: 0, onError }).then((receiver) => {
      if (receiver.error) resolve(receiver.error);
    }, (err) => (err.condition ? resolve(err) : reject(err)));
  });
}

/** The Inbox of what comes from the address: each message with the `delivery` that it came in, which the caller settles, or does not. */
async function receive(connection, address, inbox = new Inbox(`message from ${address}`)) {
  await connection.createReceiver({
    source: { address }, autoaccept: false, autosettle: false, credit_window: 10,
    onMessage: ({ message, delivery }) => inbox.put({ message, delivery }),
    onError: ({ receiver: { error } }) => inbox.fail(error),
  });
  return inbox;
}

module.exports = { connect, refusalOf, receive };
