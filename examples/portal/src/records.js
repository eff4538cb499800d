/**
 * Keeps records that come from two sides, answers and events, in the newest form of each: events may repeat,
 * and an answer may be older than an event that overtook it. `id` and `updated_at` tell.
 */

const isOlder = (record, than) => record.updated_at < than.updated_at;

/** Whether an event carries the record itself: with `payload = "ids"`, or when it is too large, it does not. */
export const isWhole = (record) => record?.created_at !== undefined;

/** Puts a conversation into the list: those with unread messages first, then the most active. */
export function putConversation(conversations, conversation) {
  const index = conversations.findIndex(({ id }) => id === conversation.id);
  if (index < 0) conversations.push(conversation);
  else if (!isOlder(conversation, conversations[index])) conversations[index] = conversation;
  const active = ({ last_message_at, created_at }) => last_message_at ?? created_at;
  const isRead = ({ unread_count }) => Number(unread_count === 0);
  conversations.sort((a, b) => isRead(a) - isRead(b) || compare(active(b), active(a)));
}

/**
 * Puts a message into its thread. One that was written here is known by its `reference` until the server has
 * given it an id.
 */
export function putMessage(messages, message) {
  const isSame = (known) => known.id === message.id || (known.isLocal && known.reference === message.reference);
  const index = messages.findIndex(isSame);
  if (index < 0) messages.push(message);
  else if (messages[index].isLocal || !isOlder(message, messages[index])) messages[index] = message;
  messages.sort(byAge);
}

/**
 * Takes over the newest page of a thread. What lies between its messages and is not among them is gone; what
 * is older stays, if the page reaches back to it; what is newer has come meanwhile. Returns whether it does.
 */
export function putNewest(messages, page) {
  const oldest = page.at(-1);
  const newest = page.at(0);
  const isConnected = page.some(({ id }) => messages.some((known) => known.id === id));
  const isInPage = ({ id }) => page.some((message) => message.id === id);
  const stays = messages.filter(
    (known) =>
      known.isLocal ||
      isInPage(known) ||
      (newest && byAge(known, newest) > 0) ||
      (isConnected && byAge(known, oldest) < 0),
  );
  messages.splice(0, messages.length, ...stays);
  page.forEach((message) => putMessage(messages, message));
  return isConnected;
}

/** Changes some fields of a message, as of the time given. */
export function changeMessage(messages, id, time, fields) {
  const known = messages.find((message) => message.id === id);
  if (known && !(time < known.updated_at)) Object.assign(known, fields, { updated_at: time });
}

/** The other side has read up to this message of ours. Returns whether it is known. */
export function markRead(messages, id, readAt) {
  const last = messages.find((message) => message.id === id);
  if (!last) return false;
  for (const message of messages) {
    const isRead = !message.isLocal && message.direction === 'OUTBOUND' && byAge(message, last) <= 0;
    if (isRead && !message.read_at) changeMessage(messages, message.id, readAt, { status: 'read', read_at: readAt });
  }
  return true;
}

function byAge(a, b) {
  // A message that was scheduled or sent again stands where it was sent.
  // What the server has not numbered yet comes last.
  return Boolean(a.isLocal) - Boolean(b.isLocal) || compare(a.placed_at, b.placed_at) || compare(a.id, b.id);
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
