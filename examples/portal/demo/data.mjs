// The data of a fresh demonstration: numbers, contacts, and a day's messages of a small letting agency.
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { failing, outsider, users } from '../users.mjs';

/** Milliseconds to wait for something that the stand-in of the carrier brings. */
const PATIENCE = 5_000;

/**
 * Fills an empty store, and leaves one with conversations as it is. `standIn` is the address of the carrier's stand-in. Without it the carrier is
 * real, and nothing is sent to these numbers, which are nobody's.
 */
export async function fill(pusher, standIn) {
  const api = messaging(pusher);
  const phone_numbers = Object.entries(users).map(([id, { name, number }]) => ({ number, user_id: Number(id), label: name }));
  await api.post('phone_numbers', { phone_numbers });
  if ((await api.conversations(1)).length) return;
  await api.post('contacts', { user_id: 1, ...users[2] });
  await api.post('contacts', { user_id: 2, ...users[1] });
  for (const user_id of [1, 2]) {
    await api.post('conversations', { user_id, to: outsider.number, contact: { name: outsider.name } });
  }
  if (standIn) await textMessages(api, standIn);
  await internalMessages(api);
}

/** Ann writes with people outside, and to a number that was mistyped. */
async function textMessages(api, standIn) {
  const sms = (to, name, text) => api.post('conversations', { user_id: 1, to, contact: { name }, text });
  await sms(failing.number, failing.name, 'Hello Mr. Weber, your keys are ready to be picked up.');
  await sms('+13125550198', 'Noah Kim', 'Hi Noah, the technician comes on Monday between eight and ten.');
  await sms(outsider.number, outsider.name, 'Hi Carla, Ann from Lee & Ortiz. Does Thursday at six suit you for 14 Elm Street?');
  await receive(api, standIn, 'Thursday at six is perfect. Is the flat free from March?');
  await sms(outsider.number, outsider.name, 'It is. I will send you the floor plan. See you then!');
  await receive(api, standIn, 'Thank you, Ann. May I bring my sister?');
}

async function receive(api, standIn, text) {
  const message = { from: outsider.number, to: users[1].number, text };
  await fetch(`${standIn}/_inbound`, { method: 'POST', body: JSON.stringify(message) });
  const end = Date.now() + PATIENCE;
  const hasCome = ({ last_message }) => last_message === text;
  while (Date.now() < end && !(await api.conversations(1)).some(hasCome)) await sleep(50);
}

/** Ann and Ben are both users of the portal: nothing of this reaches a carrier. */
async function internalMessages(api) {
  const write = async (from, text, media_urls) => {
    const to = users[3 - from].number;
    const { message } = await api.post('messages', { user_id: from, to, text, media_urls });
    return message;
  };
  await write(2, 'Morning! The owner of 14 Elm Street agreed to the viewing on Thursday.');
  const { conversation_id } = await write(1, 'Great news. Do you have the floor plan?');
  const [bens] = await api.conversations(2);
  const plan = await upload(api, bens.id, `${import.meta.dirname}/floor-plan.png`);
  const last = await write(2, 'Here it is, measured this morning.', [plan]);
  await api.post(`conversations/${conversation_id}/read`, { user_id: 1 });
  await write(1, 'Perfect. The listing is online: https://portal.example/elm-14');
  await api.post(`conversations/${last.conversation_id}/read`, { user_id: 2 });
}

/** Ben uploads a picture; answers its link. */
async function upload(api, conversation_id, path) {
  const file = await readFile(path);
  const { attachment, upload: to } = await api.post('attachments', {
    user_id: 2,
    conversation_id,
    name: path.split('/').pop(),
    content_type: 'image/png',
    size: file.length,
  });
  await fetch(to.url, { method: to.method, headers: to.headers, body: file });
  return attachment.url;
}

function messaging(pusher) {
  return {
    post: async (path, body) => (await pusher.post({ path: `/messaging/${path}`, body })).json(),
    conversations: async (user_id) =>
      (await (await pusher.get({ path: '/messaging/conversations', params: { user_id } })).json()).conversations,
  };
}
