// Publishes App\Events\MessageReceived to user 7: `npm run send -- "Hello"`.
import Pusher from 'pusher';

const { PUSHER_APP_ID, PUSHER_APP_KEY, PUSHER_APP_SECRET, PUSHER_HOST, PUSHER_PORT, PUSHER_SCHEME } = process.env;
const pusher = new Pusher({
  appId: PUSHER_APP_ID,
  key: PUSHER_APP_KEY,
  secret: PUSHER_APP_SECRET,
  host: PUSHER_HOST,
  port: PUSHER_PORT,
  useTLS: PUSHER_SCHEME === 'https',
});
const body = process.argv[2] ?? 'Hello';
await pusher.trigger(['user.7', 'private-user.7'], 'App\\Events\\MessageReceived', { body });
