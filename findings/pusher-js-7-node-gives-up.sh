#!/usr/bin/env bash
# pusher-js 7.6.0 in Node is `failed` for ever after two connections that the server closed properly.
#
# Versions: npm pusher-js 7.6.0 and, for comparison, 8.6.0; server npm ws 8.18.0; Node 20.
# Source:   pusher-js src/core/transports/assistant_to_the_transport_manager.ts (7.6.0): a connection that ends within
#           twice the activity timeout and without `wasClean` takes one of two lives of the transport. 8.2.0 removed that.
# Input:    a server that sends pusher:connection_established, then Close 4100 ("reconnect after a second"), answered
#           in kind by the client: a complete close handshake.
# Expected: the client reconnects each time, as it does in browsers.
# Seen:     close events of faye-websocket, which pusher-js brings for Node, have no `wasClean`. Every close therefore
#           counts as broken off, and after the second one the state is `failed`; 8.6.0 goes on.
# Exits 0 while this holds, 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund pusher-7@npm:pusher-js@7.6.0 pusher-8@npm:pusher-js@8.6.0 ws@8.18.0
cat >run.mjs <<'JS'
import { WebSocketServer } from 'ws';

const established = JSON.stringify({
  event: 'pusher:connection_established',
  data: JSON.stringify({ socket_id: '1.1', activity_timeout: 120 }),
});

async function connectionsAndState(version) {
  const { default: Pusher } = await import(`pusher-${version}`);
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  let connections = 0;
  server.on('connection', (socket) => {
    connections += 1;
    socket.send(established);
    if (connections <= 3) socket.close(4100, 'come back');
  });
  if (!server.address()) await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address();
  const pusher = new Pusher('key', { cluster: 'mt1', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'] });
  await new Promise((over) => {
    pusher.connection.bind('failed', over);
    pusher.connection.bind('connected', () => connections > 3 && over());
  });
  const { state } = pusher.connection;
  pusher.disconnect();
  server.close();
  return `${connections} connections, ${state}`;
}

const seen = { 7: await connectionsAndState(7), 8: await connectionsAndState(8) };
console.log(seen);
process.exit(seen[7] === '2 connections, failed' && seen[8] === '4 connections, connected' ? 0 : 1);
JS
node run.mjs
