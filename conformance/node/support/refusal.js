'use strict';

// What a refused request to the service API looks like, through the SDK and without it.

const assert = require('node:assert/strict');

// The classes that the service SDK makes of HTTP statuses. Of 404 it makes one only for a device, and only of the first envelope.
const CLASSES = {
  400: 'ArgumentError', 401: 'UnauthorizedError', 403: 'TooManyDevicesError', 409: 'DeviceAlreadyExistsError', 412: 'InvalidEtagError',
  429: 'ThrottlingError', 502: 'BadDeviceResponseError', 503: 'ServiceUnavailableError', 504: 'GatewayTimeoutError',
};

/**
 * Checks the answer to a refused request: the name of the error in the header, the same error in the body, in whichever of IoT Hub's
 * three envelopes it comes. Answers the body's numeric code, undefined in the envelope that has none, and its text.
 */
function checkAnswer({ status, errorCode, body }, wantStatus, wantErrorCode) {
  assert.equal(status, wantStatus, body);
  assert.equal(errorCode, wantErrorCode, body);
  const outer = JSON.parse(body);
  if (outer.errorCode !== undefined) return checkNumber(outer, status);
  if (outer.Message.startsWith('{')) {
    assert.equal(outer.ExceptionMessage, ''); // the Java SDK finds the number only so
    return checkNumber(JSON.parse(outer.Message), status);
  }
  assert.match(outer.Message, new RegExp(`^ErrorCode:${wantErrorCode};`));
  assert.match(outer.ExceptionMessage, /^Tracking ID:[0-9a-f]{32}-G:\d+-TimeStamp:/);
  return { text: outer.Message };
}

function checkNumber({ errorCode, message, info, trackingId, timestampUtc }, status) {
  assert.equal(Math.trunc(errorCode / 1000), status);
  assert.match(trackingId, /^[0-9a-f]{32}/);
  assert.ok(!Number.isNaN(Date.parse(timestampUtc)));
  return { code: errorCode, text: message, info };
}

/** For assert.rejects: the SDK's exception for a refusal with this status and this name in the header iothub-errorcode. */
function refusal(status, errorCode, code) {
  return (err) => {
    assert.ok(err.response, err.stack);
    const answer = { status: err.response.statusCode, errorCode: err.response.headers['iothub-errorcode'], body: err.responseBody };
    const told = checkAnswer(answer, status, errorCode);
    if (code) assert.equal(told.code, code, err.responseBody);
    const noDevice = status === 404 && told.code === undefined && errorCode === 'DeviceNotFound';
    assert.equal(err.name, noDevice ? 'DeviceNotFoundError' : CLASSES[status] ?? 'Error');
    return true;
  };
}

/** Checks what service.rest answered. */
function isRefused(answer, status, errorCode) {
  return checkAnswer({ status: answer.status, errorCode: answer.headers.get('iothub-errorcode'), body: answer.text }, status, errorCode);
}

module.exports = { refusal, isRefused };
