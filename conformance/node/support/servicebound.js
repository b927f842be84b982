'use strict';

// The queues from the hub to back ends over REST, which the Node SDK does not speak.

const service = require('./service');

/** One of the queues: 'feedback' or 'filenotifications'. */
function queue(name) {
  const path = `/messages/servicebound/${name}`;
  const request = (method, resource) => service.rest(method, resource, { policy: 'service' });
  return {
    /** Locks the next message: {status, body, contentType, lock}. */
    get: async () => {
      const { status, headers, body } = await request('GET', path);
      return { status, body, contentType: headers.get('content-type'), lock: headers.get('etag')?.replaceAll('"', '') };
    },
    complete: (lock) => request('DELETE', `${path}/${lock}`),
    abandon: (lock) => request('POST', `${path}/${lock}/abandon`),
  };
}

module.exports = { queue };
