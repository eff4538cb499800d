// Drives one published major version of pusher-js: `node pusher-js.mjs 8`.
// `node --experimental-websocket pusher-js.mjs 7 own-websocket` uses Node's own WebSocket, which says as browsers do whether a
// connection was closed properly; the one that pusher-js brings does not, and up to 8.1 two such closes are `failed`.
import { obey, report } from './lines.mjs';
import { openPortal } from './portal.mjs';

const major = Number(process.argv[2]);
// 4.x asks the browser for its name before it opens an encrypted channel; Node has none before 21.
globalThis.navigator ??= { product: 'Gecko' };
const { default: Pusher } = await import(`pusher-js-${major}`);
if (process.argv[3] === 'own-websocket') Pusher.Runtime.createWebSocket = (url) => new WebSocket(url);
const portal = await openPortal();
const connections = new Map();

function connect({ on, app, who = {}, options }) {
  portal.trust(app);
  const params = { key: app.key, who: JSON.stringify(who) };
  const pusher = new Pusher(app.key, {
    cluster: 'mt1',
    wsHost: '127.0.0.1',
    wssPort: options.wsPort,
    forceTLS: false,
    enabledTransports: ['ws', 'wss'],
    ...(major < 6 ? { disableStats: true } : {}),
    authEndpoint: `${portal.url}/broadcasting/auth`,
    auth: { params },
    userAuthentication: { endpoint: `${portal.url}/broadcasting/user-auth`, transport: 'ajax', params },
    ...options,
  });
  connections.set(on, pusher);
  pusher.connection.bind('state_change', ({ current }) => report({ on, state: current }));
  pusher.connection.bind('error', (error) => report({ on, failure: error?.error?.data ?? error?.data ?? null }));
  pusher.connection.bind('message', ({ event, channel, data }) => report({ on, frame: event, channel, data }));
  pusher.user?.bind_global((event, data) => report({ on, user_event: event, data }));
  pusher.user?.watchlist?.bind_global((_, { name, user_ids }) => report({ on, watchlist: name, user_ids }));
}

const channelOf = ({ on, channel }) => connections.get(on).channel(channel);

await obey({
  connect,
  // Binding comes before subscribing again: a second call must not report everything twice.
  subscribe({ on, channel }) {
    const known = channelOf({ on, channel });
    const subscription = connections.get(on).subscribe(channel);
    if (known) return;
    subscription.bind_global((event, data) => report({ on, channel, event, data: members(data) }));
  },
  // Only handlers bound by name are given the metadata.
  bind({ on, channel, event }) {
    channelOf({ on, channel }).bind(event, (data, metadata) =>
      report({ on, channel, bound: event, data: members(data), user_id: metadata?.user_id ?? null }));
  },
  trigger: ({ on, channel, event, data }) => channelOf({ on, channel }).trigger(event, data),
  unsubscribe: ({ on, channel }) => connections.get(on).unsubscribe(channel),
  members: (which) => members(channelOf(which).members),
  subscription_count: (which) => channelOf(which).subscriptionCount,
  signin: ({ on }) => connections.get(on).signin(),
  signed_in_as: ({ on }) => connections.get(on).user.user_data,
  socket_id: ({ on }) => connections.get(on).connection.socket_id,
  state: ({ on }) => connections.get(on).connection.state,
  reconnect: ({ on }) => connections.get(on).connect(),
  disconnect: ({ on }) => connections.get(on).disconnect(),
});

/** The parts of pusher-js's `Members` that applications read; anything else as it is. */
function members(data) {
  if (typeof data?.each !== 'function') return data;
  return { count: data.count, me: data.me, members: data.members };
}
