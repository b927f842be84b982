'use strict';

// What a SAS for the Event Hubs-compatible endpoint may be over: the hub, its event hub, one partition; and what it then opens. An
// application gives it to the SDK in the connection string or as a credential, and gets no further than the token says.

const assert = require('node:assert/strict');
const { before, describe, test } = require('node:test');
const { AzureNamedKeyCredential, AzureSASCredential } = require('@azure/core-auth');
const { EventHubConsumerClient } = require('@azure/event-hubs');
const eventHubs = require('../../support/event-hubs');
const service = require('../../support/service');
const { token } = require('../../support/credentials');
const { Subscription, Talker, index, refusal } = require('../../support/events');
const { fileScope } = require('../../support/scope');
const { NO_RETRY, consumer } = require('../../support/telemetry');

const REFUSED = ['UnauthorizedError', 'MessagingEntityNotFoundError']; // the latter over an event hub that is not there

const file = fileScope();
let talker;
let hub; // the event hub's name
let partition; // the path of the talker's partition
let elsewhere; // the path of another

before(async () => {
  await service.load();
  talker = await Talker.open(file);
  hub = eventHubs.builtIn();
  const path = (id) => `${hub}/ConsumerGroups/$Default/Partitions/${id}`;
  partition = path(talker.partitionId);
  elsewhere = path(talker.partitionId === '0' ? '1' : '0');
});

/** A token of a policy over the resource, which is below sb://host/. */
const over = (resource, { policy = 'service', ...options } = {}) =>
  token(`sb://${service.host}/${resource}`, service.policies[policy].primaryKey, { policy, ...options });

const withToken = (sas) => `Endpoint=sb://${service.host}/;SharedAccessSignature=${sas};EntityPath=${hub}`;

const read = (t, connectionString) => new Subscription(t, talker.partitionId, { connectionString, of: talker.device, startPosition: talker.start });

/** What the token opens: the description of the event hub, the talker's partition. */
async function check(t, sas, { describes, reads }) {
  const connectionString = withToken(sas);
  const description = consumer(t, { connectionString }).getEventHubProperties();
  if (describes) assert.equal((await description).name, hub);
  else await assert.rejects(description, (err) => REFUSED.includes(err.code));
  if (reads) assert.equal(index(await read(t, connectionString).events.take()), 0);
  else assert.ok(REFUSED.includes(await refusal(t, talker.partitionId, { connectionString })));
}

describe('a SAS', () => {
  const opens = {
    'over the hub opens all of it': [() => service.policyToken('service'), { describes: true, reads: true }],
    'over the hub as a namespace opens all of it': [() => over(''), { describes: true, reads: true }],
    'over the event hub opens all of it': [() => over(hub), { describes: true, reads: true }],
    'over a consumer group opens its partitions': [() => over(`${hub}/ConsumerGroups/$Default`), { describes: false, reads: true }],
    'over a partition opens that': [() => over(partition), { describes: false, reads: true }],
    'over another partition opens that only': [() => over(elsewhere), { describes: false, reads: false }],
    'over another consumer group opens that only': [() => over(partition.replace('$Default', 'other')), { describes: false, reads: false }],
    'over another event hub opens nothing': [() => over('other'), { describes: false, reads: false }],
    'over the beginning of a name opens nothing': [() => over(hub.slice(0, -1)), { describes: false, reads: false }],
    'under another name of the hub opens it: it answers to any': [() => token(`sb://hub.example/${hub}`, service.policies.service.primaryKey, { policy: 'service' }), { describes: true, reads: true }],
    'of a policy that may not read opens nothing': [() => over(hub, { policy: 'registryReadWrite' }), { describes: false, reads: false }],
    'that is over opens nothing': [() => over(hub, { lifetime: -3600 }), { describes: false, reads: false }],
  };
  for (const [what, [sas, rights]] of Object.entries(opens)) test(what, (t) => check(t, sas(), rights));

  test('is taken without TLS, too', async (t) => {
    const connectionString = `${service.eventHubsPlain.replace(/SharedAccessKey(Name)?=[^;]+;/g, '')};SharedAccessSignature=${over(hub)}`;
    assert.match(connectionString, /UseDevelopmentEmulator=true/);
    assert.equal((await consumer(t, { connectionString }).getEventHubProperties()).name, hub);
    assert.equal(index(await read(t, connectionString).events.take()), 0);
  });
});

describe('a credential of its own', () => {
  const credentials = {
    'with a SAS': () => new AzureSASCredential(over(hub)),
    "with a policy's name and primary key": () => new AzureNamedKeyCredential('service', service.policies.service.primaryKey),
    "with a policy's name and secondary key": () => new AzureNamedKeyCredential('service', service.policies.service.secondaryKey),
  };
  for (const [what, credential] of Object.entries(credentials)) {
    test(`${what} opens the event hub`, async (t) => {
      const client = new EventHubConsumerClient('$Default', service.host, hub, credential(), { retryOptions: NO_RETRY });
      t.after(() => client.close());
      assert.equal((await client.getEventHubProperties()).name, hub);
    });
  }
});
