// Drives the published Node server SDK.
import Pusher from 'pusher';
import { obey } from './lines.mjs';

await obey({
  async call({ app, port, method, args }) {
    const sdk = new Pusher({
      appId: app.id,
      key: app.key,
      secret: app.secret,
      host: '127.0.0.1',
      port,
      useTLS: false,
      encryptionMasterKeyBase64: app.masterKey,
    });
    return (await sdk[method](...args)).json();
  },
  // What the library makes of a webhook.
  async webhook({ app, headers, body }) {
    const sdk = new Pusher({ appId: app.id, key: app.key, secret: app.secret, host: '127.0.0.1' });
    const webhook = sdk.webhook({ headers, rawBody: body });
    const valid = webhook.isValid();
    return { valid, events: valid ? webhook.getEvents() : null };
  },
});
