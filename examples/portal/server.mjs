// The portal's backend: keeps the session of each user, and calls switchboard's API for that user with the stock Pusher
// SDK. The app's secret stays here. README.md has the same routes as a Laravel controller.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import Pusher from 'pusher';
import { users } from './users.mjs';

const {
  PUSHER_APP_ID,
  PUSHER_APP_KEY,
  PUSHER_APP_SECRET,
  PUSHER_HOST = '127.0.0.1',
  PUSHER_PORT = '6001',
  PUSHER_SCHEME = 'http',
  CHANNELS = 'public', // as `routing.channels.mode` of switchboard
  SESSION_KEY = randomBytes(32),
  HOST = '127.0.0.1',
  PORT = '8000',
} = process.env;

const pusher = new Pusher({
  appId: PUSHER_APP_ID,
  key: PUSHER_APP_KEY,
  secret: PUSHER_APP_SECRET,
  host: PUSHER_HOST,
  port: PUSHER_PORT,
  useTLS: PUSHER_SCHEME === 'https',
  timeout: 10_000,
});
const get = async (path, params) => (await pusher.get({ path: `/messaging${path}`, params })).json();
const post = async (path, body) => (await pusher.post({ path: `/messaging${path}`, body })).json();

// Below /<user>/api/. `user_id` is always the signed-in user's; for records of other users switchboard answers 404.
const routes = [
  ['GET', 'conversations', ({ user_id, query }) => get('/conversations', only({ user_id, before: query.before }))],
  ['POST', 'conversations', ({ user_id, body }) => post('/conversations', { user_id, to: body.to, contact: { name: body.name } })],
  ['GET', 'conversations/:id/messages', ({ user_id, id, query }) =>
    get(`/conversations/${id}/messages`, only({ user_id, before: query.before }))],
  ['POST', 'conversations/:id/read', ({ user_id, id, body }) => post(`/conversations/${id}/read`, { user_id, up_to: body.up_to })],
  ['POST', 'conversations/:id/typing', ({ user_id, id, body }) =>
    post(`/conversations/${id}/typing`, { user_id, typing: body.typing })],
  // The page then uploads the file to the address in the answer, past this backend.
  ['POST', 'attachments', ({ user_id, body: { conversation_id, name, content_type, size } }) =>
    post('/attachments', { user_id, conversation_id, name, content_type, size })],
  ['POST', 'messages', ({ user_id, body: { to, text, media_urls, key } }) =>
    // The key makes repeats harmless; as `reference` it comes back in events, so that the page knows its own.
    post('/messages', { user_id, to, text, media_urls, idempotency_key: key, reference: key, wait: false })],
  ['POST', 'messages/:id/edit', ({ user_id, id, body }) => post(`/messages/${id}/edit`, { user_id, text: body.text })],
  ['POST', 'messages/:id/delete', ({ user_id, id, body }) => post(`/messages/${id}/delete`, { user_id, scope: body.scope })],
  ['POST', 'messages/:id/retry', ({ user_id, id }) => post(`/messages/${id}/retry`, { user_id })],
].map(([method, path, run]) => [method, new RegExp(`^${path.replace(':id', '(?<id>\\w+)')}$`), run]);

/** An answer that is not 200. */
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answerApi(request, path, query, user_id) {
  const body = request.method === 'POST' ? await json(request) : {};
  for (const [method, pattern, run] of routes) {
    const match = method === request.method && pattern.exec(path);
    if (match) return run({ user_id, id: match.groups?.id, query, body });
  }
  throw new Refusal(404, 'There is no such route.');
}

/** The rules of routes/channels.php in Laravel. */
async function authorizeChannel(user_id, { socket_id, channel_name = '' }) {
  const [, kind, id] = /^private-(user|messenger)\.(\w+)$/.exec(channel_name) ?? [];
  const isAllowed =
    kind === 'user' ? id === user_id : kind === 'messenger' && (await owns(user_id, id));
  if (!isAllowed) throw new Refusal(403, 'This channel is not yours.');
  return pusher.authorizeChannel(socket_id, channel_name);
}

async function owns(user_id, conversation) {
  try {
    await get(`/conversations/${conversation}`, { user_id });
    return true;
  } catch (error) {
    if (error.status === 404) return false;
    throw error;
  }
}

// A session is `<user>.<signature>` in a cookie that is sent below /<user>/ only, so that both users can be
// looked at in one browser. The demonstration asks for no password.
const sign = (user) => createHmac('sha256', SESSION_KEY).update(user).digest('hex');

function isSignedIn(request, user) {
  const [, given = ''] = /(?:^|;\s*)session=([^;]*)/.exec(request.headers.cookie ?? '') ?? [];
  const [a, b] = [Buffer.from(given), Buffer.from(`${user}.${sign(user)}`)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function signIn(response, user) {
  response.setHeader('set-cookie', `session=${user}.${sign(user)}; Path=/${user}/; HttpOnly; SameSite=Lax`);
  redirect(response, `/${user}/`);
}

function redirect(response, location) {
  response.writeHead(303, { location });
  response.end();
}

// One build serves any server: the settings that Vite would take from VITE_PUSHER_… are put into the page here.
const broadcasting = JSON.stringify({
  key: PUSHER_APP_KEY,
  host: process.env.VITE_PUSHER_HOST ?? PUSHER_HOST,
  port: Number(process.env.VITE_PUSHER_PORT ?? PUSHER_PORT),
  scheme: process.env.VITE_PUSHER_SCHEME ?? PUSHER_SCHEME,
  channels: CHANNELS,
});
const HEADERS = {
  'content-security-policy':
    "default-src 'self'; connect-src 'self' ws: wss: http: https:; img-src 'self' http: https: blob:; media-src 'self' http: https:; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

async function page(user) {
  const metas = { 'user-id': user, 'user-name': users[user].name, broadcasting };
  const html = await readFile(`${import.meta.dirname}/dist/index.html`, 'utf8');
  return Object.entries(metas).reduce(
    (html, [name, content]) =>
      html.replace(`name="${name}" content=""`, () => `name="${name}" content="${content.replaceAll('"', '&quot;')}"`),
    html,
  );
}

const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.html': 'text/html; charset=utf-8' };

async function asset(path) {
  // Only files of the build: no other characters, so no way out of the folder.
  if (!/^\/(assets\/)?[\w-]+(\.[\w-]+)*\.(js|css|svg)$/.test(path)) throw new Refusal(404, 'There is no such page.');
  try {
    return await readFile(`${import.meta.dirname}/dist${path}`);
  } catch {
    throw new Refusal(404, 'There is no such file.');
  }
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://portal');
  const query = Object.fromEntries(url.searchParams);
  if (url.pathname === '/') {
    if (users[query.user]) return signIn(response, query.user);
    return send(response, 200, '.html', `<title>Portal</title>${links()}`);
  }
  const [, user, path] = /^\/(\d+)\/(.*)$/.exec(url.pathname) ?? [];
  if (!user) return send(response, 200, extname(url.pathname), await asset(url.pathname));
  const isKnown = users[user] && isSignedIn(request, user);
  if (!isKnown && path === '') return redirect(response, '/');
  if (!isKnown) throw new Refusal(401, 'You are not signed in.');
  if (path === '') return send(response, 200, '.html', await page(user));
  if (path === 'broadcasting/auth' && request.method === 'POST') {
    const form = Object.fromEntries(new URLSearchParams(await text(request)));
    return send(response, 200, 'json', await authorizeChannel(user, form));
  }
  if (!path.startsWith('api/')) throw new Refusal(404, 'There is no such page.');
  return send(response, 200, 'json', await answerApi(request, path.slice('api/'.length), query, user));
}

const links = () =>
  Object.entries(users).map(([id, { name }]) => `<p><a href="/?user=${id}">Sign in as ${name}</a>`).join('');

function send(response, status, type, body) {
  const isJson = type === 'json';
  response.writeHead(status, { ...HEADERS, 'content-type': isJson ? 'application/json' : TYPES[type] });
  response.end(isJson ? JSON.stringify(body) : body);
}

/** Passes a refusal of switchboard on; without one, it is away: 503. No error's text goes out: it may hold the signed URL. */
function refuse(response, error) {
  if (response.headersSent) return response.end();
  const say = (status, message) => send(response, status, 'json', { error: { message } });
  if (error instanceof Refusal) return say(error.status, error.message);
  if (error.name !== 'PusherRequestError') {
    console.error(withoutQueries(error.stack));
    return say(500, 'Something went wrong.');
  }
  if (error.status === 401) {
    // To the page 401 would mean that its user is not signed in.
    console.error('switchboard refuses the key, the secret or the time of the portal (401).');
    return say(500, 'The portal is set up wrongly.');
  }
  if (!isRefusal(error.body)) return say(503, 'Messages are not available now.');
  response.writeHead(error.status, { ...HEADERS, 'content-type': 'application/json' });
  response.end(error.body);
}

/** Whether this is the messaging API's `{"error": …}`, not a page of a proxy in between. */
function isRefusal(body) {
  try {
    return typeof JSON.parse(body).error === 'object';
  } catch {
    return false;
  }
}

const withoutQueries = (text) => String(text).replace(/\?\S*/g, '?…');

async function text(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > 64 * 1024) throw new Refusal(413, 'The request is too large.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function json(request) {
  // Forms of other sites cannot send this type.
  if (!request.headers['content-type']?.startsWith('application/json')) throw new Refusal(415, 'JSON is needed.');
  try {
    return Object(JSON.parse((await text(request)) || '{}'));
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(400, 'This is no JSON.');
  }
}

const only = (params) => Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined));

const server = createServer((request, response) => {
  answer(request, response).catch((error) => refuse(response, error));
});
server.listen(Number(PORT), HOST, () => {
  const { address, port } = server.address();
  console.log(`http://${address}:${port}`);
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
