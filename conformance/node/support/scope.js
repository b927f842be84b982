'use strict';

const { after } = require('node:test');

/** What a test context is to one test, for a whole file: things opened with it are closed, last first, at the end. */
function fileScope() {
  const closers = [];
  after(async () => {
    for (const close of closers.reverse()) await close();
  });
  return { after: (close) => closers.push(close) };
}

module.exports = { fileScope };
