// How long stock pages are without events when a single server is restarted.
//
//   node benches/restart/measure.mjs [--binary target/release/switchboard] [--pages 24] [--restarts 3]
//        [--every 20] [--gap 0] [--drain 'close_code = 4100'] [--server 'pong_timeout = "30s"'] [--silent 0]
//
// A third of the pages each are pusher-js 7.6, pusher-js 8.6 and Laravel Echo 2.5. An event is published every
// 20 ms. A restart is SIGTERM, the end of the process, --gap seconds of nothing, and a start on the same port; it
// happens --restarts times, --every seconds apart. --silent adds connections that never answer, as of phones
// that lost their network. Printed are the longest silences of each page around each restart, and the pages that
// are not connected at the end. Needs `make deps`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { createRequire } from 'node:module';

const clients = new URL('../../protocol-tests/clients/', import.meta.url);
const Pusher = createRequire(clients)('pusher');
const { values: options } = parseArgs({
  options: {
    binary: { type: 'string', default: new URL('../../target/release/switchboard', import.meta.url).pathname },
    pages: { type: 'string', default: '24' },
    restarts: { type: 'string', default: '3' },
    every: { type: 'string', default: '20' },
    gap: { type: 'string', default: '0' },
    drain: { type: 'string', default: '' },
    server: { type: 'string', default: '' },
    silent: { type: 'string', default: '0' },
  },
});
const KINDS = ['pusher-js-7', 'pusher-js-8', 'echo-2'];
const APP = { appId: '1001', key: 'key', secret: 'secret' };

const sleep = (seconds) => new Promise((wake) => setTimeout(wake, seconds * 1000));
const folder = mkdtempSync(join(tmpdir(), 'restart-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const port = await freePort();
const file = join(folder, 'switchboard.toml');
writeFileSync(file, `
[server]
bind = "127.0.0.1:${port}"
data_dir = "${folder}/data"
${options.server}
[server.drain]
${options.drain}
[admin]
bind = "127.0.0.1:0"
[log]
level = "error"
[[apps]]
id = "${APP.appId}"
key = "${APP.key}"
secrets = ["${APP.secret}"]
`);

let server = await start();
const fleets = KINDS.map((kind) => new Fleet(kind, Math.ceil(options.pages / KINDS.length)));
process.on('exit', () => fleets.forEach(({ child }) => child.kill()));
await Promise.all(fleets.map((fleet) => fleet.ask('open', { key: APP.key, port })));
publishAlways();
await sleep(3);
await Promise.all(fleets.map((fleet) => fleet.ask('silences')));
const all = [];
for (let restart = 1; restart <= options.restarts; restart += 1) {
  for (let silent = 0; silent < options.silent; silent += 1) await openSilent();
  const asked = Date.now();
  server.kill('SIGTERM');
  await once(server, 'exit');
  const ended = Date.now();
  await sleep(Number(options.gap));
  server = await start();
  const started = Date.now();
  await sleep(Number(options.every));
  const silences = (await Promise.all(fleets.map((fleet) => fleet.ask('silences')))).flat();
  all.push(...silences);
  console.log(`restart ${restart}: old process ended after ${ended - asked} ms, new one listened ${started - ended} ms later; ${summary(silences)}`);
}
const states = (await Promise.all(fleets.map((fleet) => fleet.ask('states')))).flat();
const histories = (await Promise.all(fleets.map((fleet) => fleet.ask('histories')))).flat();
console.log(`all restarts: ${summary(all)}`);
console.log(`at the end: ${tally(states)}; ever failed: ${histories.filter((states) => states.includes('failed')).length}`);
server.kill('SIGKILL');
process.exit(0);

function summary(times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return `pages without events for ${at(0.5)} ms (median), ${at(1)} ms (worst of ${sorted.length})`;
}

function tally(words) {
  const counts = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return Object.entries(counts).map(([word, count]) => `${count} ${word}`).join(', ');
}

async function start() {
  const child = spawn(resolve(options.binary), ['serve', '--json', '--config', file], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  process.on('exit', () => child.kill('SIGKILL'));
  await once(createInterface({ input: child.stdout }), 'line');
  return child;
}

function publishAlways() {
  const sdk = new Pusher({ ...APP, host: '127.0.0.1', port: String(port), useTLS: false });
  let n = 0;
  setInterval(() => {
    n += 1;
    // While no server listens, nothing can be published.
    sdk.trigger('news', 'Posted', { n }).catch(() => {});
  }, 20);
}

async function openSilent() {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`GET /app/${APP.key}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`
    + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n');
  await once(socket, 'data');
}

async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

function Fleet(kind, count) {
  this.child = spawn('node', ['--no-warnings', '--experimental-websocket', new URL('fleet.mjs', clients).pathname, kind, String(count)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = new Map();
  createInterface({ input: this.child.stdout }).on('line', (line) => {
    const { id, ok, error } = JSON.parse(line);
    if (error) throw new Error(error);
    waiting.get(id)?.(ok);
  });
  let asked = 0;
  this.ask = (name, rest = {}) => new Promise((answer) => {
    asked += 1;
    waiting.set(asked, answer);
    this.child.stdin.write(`${JSON.stringify({ id: asked, do: name, ...rest })}\n`);
  });
}
