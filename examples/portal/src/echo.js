import Echo from 'laravel-echo';
import Pusher from 'pusher-js';
import { broadcasting } from './page.js';

window.Pusher = Pusher;
window.Echo = new Echo({
  broadcaster: 'pusher',
  key: broadcasting.key,
  cluster: 'mt1',
  wsHost: broadcasting.host,
  wsPort: broadcasting.port,
  wssPort: broadcasting.port,
  forceTLS: broadcasting.scheme === 'https',
  enabledTransports: ['ws', 'wss'],
  authEndpoint: 'broadcasting/auth',
});
