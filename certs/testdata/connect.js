// Requests / from each target "address port name" and prints a line: OK or what went wrong.
const https = require('https');
const net = require('net');

const connect = target => new Promise(resolve => {
  const [host, port, name] = target.split(' ');
  const options = {host, port, path: '/', agent: false, headers: {host: name}};
  if (!net.isIP(name)) options.servername = name;
  https.get(options, res => { res.resume(); res.on('end', () => resolve('OK')); })
    .on('error', e => resolve(`${e.code} ${e.message}`.replace(/\n/g, ' ')));
});

Promise.all(process.argv.slice(2).map(connect)).then(lines => console.log(lines.join('\n')));
