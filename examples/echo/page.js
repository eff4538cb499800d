import Echo from 'laravel-echo';
import Pusher from 'pusher-js';

window.Pusher = Pusher;
window.Echo = new Echo({
  broadcaster: 'pusher',
  key: import.meta.env.VITE_PUSHER_APP_KEY,
  cluster: import.meta.env.VITE_PUSHER_APP_CLUSTER ?? 'mt1',
  wsHost: import.meta.env.VITE_PUSHER_HOST,
  wsPort: import.meta.env.VITE_PUSHER_PORT ?? 80,
  wssPort: import.meta.env.VITE_PUSHER_PORT ?? 443,
  forceTLS: (import.meta.env.VITE_PUSHER_SCHEME ?? 'https') === 'https',
  enabledTransports: ['ws', 'wss'],
});

function show(list, text) {
  document.getElementById(list).append(Object.assign(document.createElement('li'), { textContent: text }));
}

for (const [name, channel] of [
  ['user.7', window.Echo.channel('user.7')],
  ['private-user.7', window.Echo.private('user.7')],
]) {
  channel
    .subscribed(() => show('channels', name))
    .error(({ status }) => show('channels', `${name}: refused (${status})`))
    .listen('MessageReceived', ({ body }) => show('messages', `${name}: ${body}`));
}
