// Stands in for the application: serves the page and decides who may listen to a private channel.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';
import Pusher from 'pusher';

const { PUSHER_APP_ID, PUSHER_APP_KEY, PUSHER_APP_SECRET, PORT = '8000' } = process.env;
const here = import.meta.dirname;

// What Vite does for a Laravel application: bundle, and put the VITE_ variables in.
const variables = ['APP_KEY', 'APP_CLUSTER', 'HOST', 'PORT', 'SCHEME'].map((name) =>
  [`import.meta.env.VITE_PUSHER_${name}`, JSON.stringify(process.env[`PUSHER_${name}`]) ?? 'undefined']);
const { outputFiles: [page] } = await build({
  entryPoints: [`${here}/page.js`],
  bundle: true,
  write: false,
  define: Object.fromEntries(variables),
});

const signer = new Pusher({ appId: PUSHER_APP_ID, key: PUSHER_APP_KEY, secret: PUSHER_APP_SECRET });

const server = createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/broadcasting/auth') {
    const form = new URLSearchParams(Buffer.concat(await request.toArray()).toString());
    const channel = form.get('channel_name');
    // A real application looks at its session here: is this visitor user 7?
    const allowed = channel === 'private-user.7';
    response.writeHead(allowed ? 200 : 403, { 'content-type': 'application/json' });
    return response.end(JSON.stringify(allowed ? signer.authorizeChannel(form.get('socket_id'), channel) : {}));
  }
  const [type, body] = request.url === '/page.js'
    ? ['text/javascript', page.contents]
    : ['text/html', await readFile(`${here}/index.html`)];
  response.writeHead(200, { 'content-type': type });
  response.end(body);
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
