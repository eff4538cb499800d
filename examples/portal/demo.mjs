// `make demo`: switchboard, the carrier's stand-in and the portal, until Ctrl-C.
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import Pusher from 'pusher';
import { fill } from './demo/data.mjs';
import { ports } from './demo/ports.mjs';
import { end, giveUp, start } from './demo/programs.mjs';
import { failing, outsider, users } from './users.mjs';

const root = `${import.meta.dirname}/../..`;
const { SWITCHBOARD = `${root}/target/release/switchboard`, DATA_DIR = `${root}/target/demo` } = process.env;

/** Milliseconds for which the pages show that their server is gone, before it is started again. */
const PAUSE = 5_000;

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

/** The stand-in's address and the settings for it; with Telnyx itself there is no stand-in. */
async function carrier(publicUrl) {
  if (process.env.TELNYX_API_KEY) return { env: { PUBLIC_URL: publicUrl } };
  const args = [`${root}/protocol-tests/carrier/fake_telnyx.py`, '--port', '0', '--quiet'];
  args.push('--webhook-url', `${publicUrl}/carriers/telnyx/1001`, '--sent-delay-ms', '600', '--final-delay-ms', '1500');
  for (const { number } of Object.values(users)) args.push('--own', number);
  const { line, ended } = await start('The stand-in of the carrier', 'python3', args, {});
  ended.then((sentence) => sentence && giveUp(sentence));
  const { url, api_base, public_key } = JSON.parse(line);
  const env = { TELNYX_BASE_URL: api_base, TELNYX_API_KEY: 'KEY_TEST', TELNYX_PUBLIC_KEY: public_key, PUBLIC_URL: publicUrl };
  return { url, env };
}

/** Starts switchboard, and again whenever it ends; answers the id of the first process. */
async function keepServing(env) {
  const args = ['serve', '--json', '--log-level', 'warn', '--config', `${import.meta.dirname}/switchboard.toml`];
  const { pid, ended } = await start('switchboard', SWITCHBOARD, args, env);
  ended.then(async (sentence) => {
    if (!sentence) return;
    console.log(`\n${sentence} The pages say so, and keep new messages for later. It starts again in ${PAUSE / 1_000} s.`);
    await sleep(PAUSE);
    const again = await keepServing(env);
    console.log(`switchboard runs again, with all it had; the pages come back by themselves. Once more: kill -9 ${again}`);
  }).catch((error) => giveUp(error.message));
  return pid;
}

async function run() {
  const app = await credentials();
  const { server: serverPort, portal: portalPort } = await ports();
  const env = {
    PUSHER_APP_ID: app.id,
    PUSHER_APP_KEY: app.key,
    PUSHER_APP_SECRET: app.secret,
    PUSHER_HOST: '127.0.0.1',
    PUSHER_PORT: String(serverPort),
    PUSHER_SCHEME: 'http',
    SESSION_KEY: app.secret,
    DATA_DIR,
  };
  const { url, env: telnyx } = await carrier(process.env.PUBLIC_URL || `http://127.0.0.1:${serverPort}`);
  const pid = await keepServing({ ...env, ...telnyx });
  await fill(new Pusher({ appId: app.id, ...app, host: '127.0.0.1', port: String(serverPort), useTLS: false }), url);
  const portal = await start('The portal', process.execPath, [`${import.meta.dirname}/server.mjs`], { ...env, PORT: String(portalPort) });
  portal.ended.then((sentence) => sentence && giveUp(sentence));
  explain({ portal: portal.line, standIn: url, pid });
}

function explain({ portal, standIn, pid }) {
  console.log('\nThe portal runs. Open both, side by side:\n');
  for (const [id, { name }] of Object.entries(users)) console.log(`  ${name.padEnd(12)}${portal}/?user=${id}`);
  if (standIn) {
    const text = JSON.stringify({ from: outsider.number, to: users[1].number, text: 'Hello from my phone' });
    console.log(`\n${outsider.name} is outside: messages to her are SMS, sent to a stand-in of the carrier. She writes to`);
    console.log(`${users[1].name} with\n\n  curl -s ${standIn}/_inbound -d '${text}'\n`);
    console.log(`Messages to ${failing.name} fail: his number is wrong. With TELNYX_API_KEY set, SMS are real.`);
  }
  console.log('\nTo see how the pages recover, kill the server. It starts again after some seconds:\n');
  console.log(`  kill -9 ${pid}\n`);
  console.log('Ctrl-C ends it.');
}

await run().catch((error) => giveUp(error.message));
