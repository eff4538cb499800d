// An event and a message with the stock SDK (npm install pusher): `node examples/backend/send.js "Hello"`.
const Pusher = require('pusher');

const { PUSHER_APP_ID, PUSHER_APP_KEY, PUSHER_APP_SECRET, PUSHER_HOST, PUSHER_PORT, PUSHER_SCHEME } = process.env;
const pusher = new Pusher({
  appId: PUSHER_APP_ID,
  key: PUSHER_APP_KEY,
  secret: PUSHER_APP_SECRET,
  host: PUSHER_HOST,
  port: PUSHER_PORT,
  useTLS: PUSHER_SCHEME === 'https',
});
const post = async (path, body) => (await pusher.post({ path, body })).json();

async function send(text) {
  await pusher.trigger('user.2', 'App\\Events\\Greeting', { text });

  // Who has which number; once is enough.
  await post('/messaging/phone_numbers', {
    phone_numbers: [{ number: '+13125550100', user_id: 1 }, { number: '+13125550101', user_id: 2 }],
  });
  const { message } = await post('/messaging/messages', { user_id: 1, to: '(312) 555-0101', text });
  console.log(message.status);
}

send(process.argv[2] ?? 'Hello');
