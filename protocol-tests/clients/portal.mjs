// The customer's application: signs channels and users as Laravel's routes do, and serves pages.
// The visitor says who they are with the parameter `who`, a JSON object:
//   {"id":"42","user_info":{…},"watchlist":[…],"refuse":true,"forged":true,"joins_as_user":true}
// `forged` signs with a wrong secret; `joins_as_user` leaves `channel_data` to the sign-in.
import { createServer } from 'node:http';
import Pusher from 'pusher';

/**
 * @param {{id: string, key: string, secret: string, masterKey?: string}[]} apps
 * @param {Record<string, {type: string, body: string}>} files what GET answers, by path
 * @param {{key: string, who: object}} [session] the app and the visitor of pages that name none
 */
export async function openPortal(apps = [], files = {}, session = {}) {
  const signers = new Map();
  const trust = ({ id, key, secret, masterKey }) =>
    signers.set(key, {
      honest: sdk(id, key, secret, masterKey),
      forged: sdk(id, key, `not-${secret}`, masterKey),
    });
  apps.forEach(trust);

  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://portal');
    if (request.method === 'GET' && files[pathname]) {
      response.writeHead(200, { 'content-type': files[pathname].type });
      return response.end(files[pathname].body);
    }
    const form = new URLSearchParams(await text(request));
    const who = form.has('who') ? JSON.parse(form.get('who')) : (session.who ?? {});
    const signer = signers.get(form.get('key') ?? session.key)?.[who.forged ? 'forged' : 'honest'];
    const answer = signer && !who.refuse && routes[pathname]?.(signer, form, who);
    response.writeHead(answer ? 200 : 403, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer || { message: 'This action is unauthorized.' }));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { url: `http://127.0.0.1:${server.address().port}`, trust, close: () => server.close() };
}

const routes = {
  '/broadcasting/auth': (signer, form, who) => {
    const channel = form.get('channel_name');
    // Laravel leaves falsy user_info out.
    const member = { user_id: who.id, ...(who.user_info ? { user_info: who.user_info } : {}) };
    const isMember = channel.startsWith('presence-') && who.id !== undefined && !who.joins_as_user;
    return signer.authorizeChannel(form.get('socket_id'), channel, isMember ? member : undefined);
  },
  '/broadcasting/user-auth': (signer, form, who) => {
    const { id, user_info, watchlist } = who;
    return id && signer.authenticateUser(form.get('socket_id'), { id, user_info, watchlist });
  },
};

function sdk(appId, key, secret, encryptionMasterKeyBase64) {
  return new Pusher({ appId, key, secret, encryptionMasterKeyBase64 });
}

async function text(request) {
  let body = '';
  for await (const piece of request) body += piece;
  return body;
}
