// An event and a message with the stock SDK: `node examples/backend/send.js "Hello"`. Packages: README.md.
let Pusher;
try {
  Pusher = require('pusher');
} catch (error) {
  if (error.code !== 'MODULE_NOT_FOUND') throw error;
  fail('The SDK is missing. Install it: npm install --prefix examples/backend');
}

const NAMES = ['PUSHER_APP_ID', 'PUSHER_APP_KEY', 'PUSHER_APP_SECRET', 'PUSHER_HOST', 'PUSHER_PORT', 'PUSHER_SCHEME'];
const missing = NAMES.find((name) => !process.env[name]);
if (missing) fail(`${missing} is not set. Save the block that begins with BROADCAST_CONNECTION=pusher as .env and load it: set -a; . ./.env; set +a`);

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

  // The owners of the numbers; once is enough.
  await post('/messaging/phone_numbers', {
    phone_numbers: [{ number: '+13125550100', user_id: 1 }, { number: '+13125550101', user_id: 2 }],
  });
  const { message } = await post('/messaging/messages', { user_id: 1, to: '(312) 555-0101', text });
  console.log(message.status);
}

// The error itself holds the signed URL, so it is not printed.
send(process.argv[2] ?? 'Hello').catch((error) =>
  fail(error.body ?? `No server answers at ${PUSHER_SCHEME}://${PUSHER_HOST}:${PUSHER_PORT}. Is it running?`),
);

function fail(reason) {
  console.error(reason);
  process.exit(1);
}
