// Drives a published Laravel Echo on a published pusher-js: `node echo.mjs 2 8`.
import { obey, report } from './lines.mjs';
import { openPortal } from './portal.mjs';

const [echoVersion, pusherVersion] = process.argv.slice(2);
// Echo 1.x is CommonJS, whose exports Node puts one level deeper.
const { default: exported } = await import(`laravel-echo-${echoVersion}`);
const Echo = exported.default ?? exported;
const { default: Pusher } = await import(`pusher-js-${pusherVersion}`);
const portal = await openPortal();
const pages = new Map();

const TAKES_A_CALLBACK = new Set([
  'listen', 'listenToAll', 'listenForWhisper', 'notification',
  'here', 'joining', 'leaving', 'subscribed', 'error',
]);

// [["private", "user.7"], ["listen", "MessageReceived"]] is Echo.private('user.7').listen('MessageReceived', …)
function chain({ on, calls }) {
  let target = pages.get(on);
  for (const [method, ...args] of calls) {
    const callback = (first = null, second) =>
      report({ on, heard: method, of: args[0] ?? null, got: method === 'listenToAll' ? [first, second] : first });
    target = target[method](...args, ...(TAKES_A_CALLBACK.has(method) ? [callback] : []));
  }
  return ['string', 'number', 'boolean'].includes(typeof target) ? target : null;
}

await obey({
  connect({ on, app, port, who = {}, broadcaster, options = {} }) {
    portal.trust(app);
    const params = { key: app.key, who: JSON.stringify(who) };
    const echo = new Echo({
      broadcaster,
      Pusher,
      key: app.key,
      ...(broadcaster === 'pusher' ? { cluster: 'mt1' } : {}),
      wsHost: '127.0.0.1',
      wsPort: port,
      wssPort: port,
      forceTLS: false,
      enabledTransports: ['ws', 'wss'],
      authEndpoint: `${portal.url}/broadcasting/auth`,
      auth: { params, headers: {} },
      userAuthentication: { endpoint: `${portal.url}/broadcasting/user-auth`, params },
      ...options,
    });
    pages.set(on, echo);
    const { connection } = echo.connector.pusher;
    connection.bind('state_change', ({ current }) => report({ on, state: current }));
    connection.bind('message', ({ event, channel, data }) => report({ on, frame: event, channel, data }));
  },
  chain,
  at_once: ({ on, chains }) => chains.forEach((calls) => chain({ on, calls })),
  signin: ({ on }) => pages.get(on).connector.signin(),
  // The server's answer proves that it has handled every frame before it.
  settle({ on }) {
    pages.get(on).connector.pusher.send_event('pusher:ping', {});
  },
});
