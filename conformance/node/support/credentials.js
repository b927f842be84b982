'use strict';

// Tokens and the authentication providers that device clients take.

const { EventEmitter } = require('node:events');
const { AuthenticationType, SharedAccessSignature, encodeUriComponentStrict } = require('azure-iot-common');
const { SharedAccessKeyAuthenticationProvider, X509AuthenticationProvider } = require('azure-iot-device');

// Tokens outlive every move of the hub's clock that a test makes. Not longer than 24 days: the SDK plans the renewal
// with setTimeout, whose delay is a signed 32-bit number of milliseconds.
const LIFETIME_S = 20 * 24 * 3600;
const RENEWAL_MARGIN_S = 900;

const seconds = (fromNow) => Math.floor(Date.now() / 1000) + fromNow;

/** A token over `resource` as it stands, before encoding. Options: policy, lifetime in seconds (may be negative). */
function token(resource, key, { policy, lifetime = LIFETIME_S } = {}) {
  return SharedAccessSignature.create(encodeUriComponentStrict(resource), policy, key, seconds(lifetime)).toString();
}

/** The provider that applications use: a device or module key from which tokens are made. */
function byKey({ host, deviceId, moduleId }, key) {
  return new SharedAccessKeyAuthenticationProvider({ host, deviceId, moduleId, sharedAccessKey: key }, LIFETIME_S, RENEWAL_MARGIN_S);
}

/** A provider that hands out one token, whatever the token says, for the identity given. */
function byToken({ host, deviceId, moduleId }, sharedAccessSignature) {
  const provider = new EventEmitter();
  provider.type = AuthenticationType.Token;
  provider.getDeviceCredentials = (callback) => callback(null, { host, deviceId, moduleId, sharedAccessSignature });
  provider.stop = () => {};
  return provider;
}

/** A provider with a client certificate ({cert, key} as PEM). */
function byCertificate({ host, deviceId, moduleId }, { cert, key }) {
  return new X509AuthenticationProvider({ host, deviceId, moduleId, x509: { cert, key } });
}

module.exports = { LIFETIME_S, token, byKey, byToken, byCertificate };
