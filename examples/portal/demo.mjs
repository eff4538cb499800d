// `make demo`: switchboard, the carrier's stand-in and the portal, until Ctrl-C.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import Pusher from 'pusher';
import { outsider, users } from './users.mjs';

const root = `${import.meta.dirname}/../..`;
const { SWITCHBOARD = `${root}/target/release/switchboard`, DATA_DIR = `${root}/target/demo` } = process.env;

const children = [];
let isEnding = false;

/** Ends everything that was started, the last first. */
function end(code) {
  if (isEnding) return;
  isEnding = true;
  process.exitCode = code;
  for (const { child, guard } of children.reverse()) {
    guard.kill();
    child.kill();
  }
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end(0));

/** Starts a program and returns the first line it prints. */
async function start(name, command, args, env) {
  // In a group of its own, so that Ctrl-C reaches this process alone, which then ends the others.
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const ended = new Promise((_, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${name} ended (${code})`)));
  });
  ended.catch((error) => {
    if (!isEnding) console.error(error.message);
    end(1);
  });
  if (child.pid) children.push({ child, guard: watchOver(child.pid) });
  const lines = createInterface({ input: child.stdout });
  return Promise.race([new Promise((resolve) => lines.once('line', resolve)), ended]);
}

/** Ends a program when this process is gone, however it went: its end of the pipe is closed then. */
function watchOver(pid) {
  return spawn('sh', ['-c', 'read -r _; kill "$1"', 'guard', String(pid)], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
}

/** This port, or any free one where it is taken. */
function freePort(wanted) {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(freePort(0)));
    probe.listen(wanted, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Credentials that stay the same, as the data does. */
async function credentials() {
  const file = `${DATA_DIR}/app.json`;
  await mkdir(DATA_DIR, { recursive: true });
  try {
    return JSON.parse(await readFile(file));
  } catch {
    const random = () => randomBytes(16).toString('hex');
    const app = { id: '1001', key: random(), secret: random() };
    await writeFile(file, JSON.stringify(app), { mode: 0o600 });
    return app;
  }
}

async function carrier(publicUrl) {
  if (process.env.TELNYX_API_KEY) return { env: {} };
  const standIn = `${root}/protocol-tests/carrier/fake_telnyx.py`;
  const args = [standIn, '--port', '0', '--quiet', '--webhook-url', `${publicUrl}/carriers/telnyx/1001`];
  for (const { number } of Object.values(users)) args.push('--own', number);
  const { url, api_base, public_key } = JSON.parse(
    await start('The stand-in', 'python3', [...args, '--sent-delay-ms', '600', '--final-delay-ms', '1500']),
  );
  const env = { TELNYX_BASE_URL: api_base, TELNYX_API_KEY: 'KEY_TEST', TELNYX_PUBLIC_KEY: public_key, PUBLIC_URL: publicUrl };
  return { url, env };
}

/** Numbers, contacts and a few words to begin with; all of it once only, however often this runs. */
async function fill(pusher) {
  const post = (path, body) => pusher.post({ path: `/messaging/${path}`, body });
  const phone_numbers = Object.entries(users).map(([id, { name, number }]) => ({ number, user_id: Number(id), label: name }));
  await post('phone_numbers', { phone_numbers });
  await post('contacts', { user_id: 1, ...users[2] });
  await post('contacts', { user_id: 2, ...users[1] });
  const words = [[2, 'Hi Ann, did the floor plan reach you?'], [1, 'Not yet. Can you send it here?']];
  for (const [index, [user_id, text]] of words.entries()) {
    const to = users[3 - user_id].number;
    await post('messages', { user_id, to, text, idempotency_key: `demo-${index}` });
  }
  for (const user_id of Object.keys(users)) {
    await post('conversations', { user_id: Number(user_id), to: outsider.number, contact: { name: outsider.name } });
  }
}

async function run() {
  const app = await credentials();
  const port = await freePort(6001);
  const env = {
    PUSHER_APP_ID: app.id,
    PUSHER_APP_KEY: app.key,
    PUSHER_APP_SECRET: app.secret,
    PUSHER_HOST: '127.0.0.1',
    PUSHER_PORT: String(port),
    PUSHER_SCHEME: 'http',
    SESSION_KEY: app.secret,
    DATA_DIR,
  };
  const { url, env: telnyx } = await carrier(process.env.PUBLIC_URL ?? `http://127.0.0.1:${port}`);
  const config = `${import.meta.dirname}/switchboard.toml`;
  await start('switchboard', SWITCHBOARD, ['serve', '--json', '--log-level', 'warn', '--config', config], { ...env, ...telnyx });
  await fill(new Pusher({ appId: app.id, ...app, host: '127.0.0.1', port: String(port), useTLS: false }));
  const portalPort = await freePort(Number(process.env.PORT ?? 8000));
  const portal = await start('The portal', 'node', [`${import.meta.dirname}/server.mjs`], { ...env, PORT: String(portalPort) });

  console.log('\nThe portal runs. Open both, side by side:\n');
  for (const [id, { name }] of Object.entries(users)) console.log(`  ${name.padEnd(12)}${portal}/?user=${id}`);
  if (url) {
    const text = JSON.stringify({ from: outsider.number, to: users[1].number, text: 'Hello from my phone' });
    console.log(`\n${outsider.name} is outside: messages to her are SMS, sent to a stand-in of the carrier. She writes to`);
    console.log(`${users[1].name} with\n\n  curl -s ${url}/_inbound -d '${text}'\n`);
    console.log('and a message to +1 500 555 0001 fails. With TELNYX_API_KEY set, SMS are real.');
  }
  console.log('\nCtrl-C ends it.');
}

await run().catch((error) => {
  if (!isEnding) console.error(error);
  end(1);
});
