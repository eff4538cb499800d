// Several pages of one kind in one process, each subscribed to the channel "news":
// `node --experimental-websocket fleet.mjs pusher-js-7 8`, `node --experimental-websocket fleet.mjs echo-2 8`.
// Echo runs on pusher-js 8, which its current release asks for. The pages use Node's own WebSocket, which says as
// browsers do whether a connection was closed properly. The one that pusher-js brings for Node never says so, and
// pusher-js up to 8.1 gives up for good after two short connections that were not.
import { obey, report } from './lines.mjs';

const [kind, count] = process.argv.slice(2);
const library = kind.startsWith('echo') ? 'pusher-js-8' : kind;
const { default: Pusher } = await import(library);
const Echo = kind.startsWith('echo') && (await import(`laravel-${kind}`)).default;
Pusher.Runtime.createWebSocket = (url) => new WebSocket(url);
const pages = [];

function newPage({ key, port }) {
  const options = { cluster: 'mt1', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws', 'wss'] };
  if (!Echo) {
    const pusher = new Pusher(key, options);
    return { pusher, listen: (hear) => pusher.subscribe('news').bind('Posted', hear) };
  }
  const echo = new Echo({ broadcaster: 'pusher', Pusher, key, ...options });
  return { pusher: echo.connector.pusher, listen: (hear) => echo.channel('news').listen('.Posted', hear) };
}

function open(index, options) {
  const page = { ...newPage(options), states: [], events: 0, last: 0, longest: 0 };
  pages.push(page);
  page.pusher.connection.bind('state_change', ({ current }) => {
    page.states.push(current);
    report({ page: index, state: current });
  });
  page.pusher.subscribe('news').bind('pusher:subscription_succeeded', () => report({ page: index, subscribed: true }));
  page.listen(({ n }) => {
    const now = performance.now();
    if (page.last) page.longest = Math.max(page.longest, now - page.last);
    page.last = now;
    page.events += 1;
    page.newest = n;
    for (const wait of page.waiting ?? []) wait(n);
  });
}

/** Resolves when this page has an event at least as new as the one numbered `n`. */
function hasHeard(page, n) {
  if (page.newest >= n) return undefined;
  page.waiting ??= new Set();
  return new Promise((heard) => {
    const wait = (newest) => {
      if (newest >= n) {
        page.waiting.delete(wait);
        heard();
      }
    };
    page.waiting.add(wait);
  });
}

await obey({
  open: (options) => Array.from({ length: Number(count) }, (_, index) => open(index, options)).length,
  states: () => pages.map(({ pusher }) => pusher.connection.state),
  /** Every state that each page has been in, in order. */
  histories: () => pages.map(({ states }) => states),
  /** Waits until all pages have heard event `n`. */
  async heard({ n }) {
    await Promise.all(pages.map((page) => hasHeard(page, n)));
  },
  /** The longest time in milliseconds that each page was without an event since this was last asked. */
  silences: () => pages.map((page) => {
    const longest = Math.max(page.longest, performance.now() - page.last);
    page.longest = 0;
    return Math.round(longest);
  }),
});
