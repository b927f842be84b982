'use strict';

// X.509 certificates for devices, written straight in DER (RFC 5280, ITU-T X.690): node signs but does not issue, and
// a certificate this small needs no library.

const crypto = require('node:crypto');

const TAG = { bool: 0x01, integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, utf8: 0x0c, utcTime: 0x17, sequence: 0x30, set: 0x31 };
const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302')); // 1.2.840.10045.4.3.2
const COMMON_NAME = oid('550403'); // 2.5.4.3
const BASIC_CONSTRAINTS = oid('551d13'); // 2.5.29.19
const SUBJECT_ALT_NAME = oid('551d11'); // 2.5.29.17
const IP_ADDRESS = 0x87; // of a GeneralName
const DAY_MS = 86_400_000;

function tlv(tag, ...parts) {
  const body = Buffer.concat(parts);
  const size = body.length < 0x80 ? [body.length]
    : body.length < 0x100 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

function sequence(...parts) { return tlv(TAG.sequence, ...parts); }
function oid(hex) { return tlv(TAG.oid, Buffer.from(hex, 'hex')); }
function bits(body) { return tlv(TAG.bits, Buffer.from([0]), body); }
function name(text) { return sequence(tlv(TAG.set, sequence(COMMON_NAME, tlv(TAG.utf8, Buffer.from(text))))); }
function integer(bytes) { return tlv(TAG.integer, bytes[0] & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes); }
function time(ms) { return tlv(TAG.utcTime, Buffer.from(new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14) + 'Z')); }

function issue(subject, issuer, publicKey, issuerKey, authority, address) {
  const names = address ? [sequence(SUBJECT_ALT_NAME, tlv(TAG.octets, sequence(tlv(IP_ADDRESS, Buffer.from(address.split('.').map(Number))))))] : [];
  const constraints = sequence(BASIC_CONSTRAINTS, tlv(TAG.bool, Buffer.from([0xff])),
    tlv(TAG.octets, authority ? sequence(tlv(TAG.bool, Buffer.from([0xff]))) : sequence()));
  const body = sequence(
    tlv(0xa0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([1]), crypto.randomBytes(8)])),
    ECDSA_WITH_SHA256,
    name(issuer),
    sequence(time(Date.now() - DAY_MS), time(Date.now() + 30 * DAY_MS)),
    name(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(constraints, ...names)));
  const der = sequence(body, ECDSA_WITH_SHA256, bits(crypto.sign('sha256', body, issuerKey)));
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()}\n-----END CERTIFICATE-----\n`;
}

function create(subject, issuer, isAuthority, address) {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuerKey = issuer ? crypto.createPrivateKey(issuer.key) : privateKey;
  return {
    subject,
    cert: issue(subject, issuer ? issuer.subject : subject, publicKey, issuerKey, isAuthority, address),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
}

/** A self-signed device certificate: {subject, cert, key}, the last two as PEM. */
function createSelfSigned(commonName) { return create(commonName, null, false); }

/** A root that may sign device certificates. */
function createAuthority(commonName) { return create(commonName, null, true); }

/** A device certificate signed by an authority made above. */
function createSigned(commonName, authority) { return create(commonName, authority, false); }

/** The certificate of a server at an IPv4 address, signed by an authority made above. */
function createServer(address, authority) { return create(address, authority, false, address); }

/** The thumbprint as the registry wants it: upper-case hex, no separators. */
function thumbprint(pem, algorithm = 'sha1') {
  const { fingerprint, fingerprint256 } = new crypto.X509Certificate(pem);
  return (algorithm === 'sha256' ? fingerprint256 : fingerprint).replaceAll(':', '');
}

module.exports = { createSelfSigned, createAuthority, createSigned, createServer, thumbprint };
