/**
 * Conversations and messages of the signed-in user, kept up to date by Echo's events.
 *
 * Events only make it quick. The truth is in the backend, and it is loaded again whenever events may have been
 * missed: after each subscription, so also after each reconnect, and now and then while the socket is down.
 */
import { computed, reactive, watch } from 'vue';
import { get, post } from './api.js';
import { announce, isVisible, notify } from './attention.js';
import { connection, reconnect, watchConnection } from './connection.js';
import { broadcasting, userId } from './page.js';
import { changeMessage, isWhole, markRead, putConversation, putMessage, putNewest } from './records.js';
import { contactName, summary } from './words.js';

/** How often the other side is told that the user still types; it forgets after 6 s. */
const TYPING_PAUSE = 3_000;
/** When what failed is tried again, if nothing else makes it so. */
const AGAIN = 5_000;
/** So many threads at the top of the list are loaded ahead: they open at once, and the list knows what failed in them. */
const AHEAD = 8;
/** More pages of the list are loaded until each unread conversation is there, but not more than so many. */
const UNREAD_PAGES = 5;

export const messenger = reactive({
  conversations: [],
  /** To be sent as `before` for more conversations; null: these are all. */
  nextConversations: null,
  hasLoaded: false,
  openId: null,
  /** By conversation: `{messages, next, hasLoaded}`, the oldest message first. */
  threads: {},
  /** By conversation: `{online, last_seen_at}` of its contact. */
  presence: {},
  /** By conversation: whether its contact types. */
  typing: {},
});

export const openConversation = computed(() => messenger.conversations.find(({ id }) => id === messenger.openId));
export const unreadTotal = computed(() => messenger.conversations.reduce((sum, { unread_count }) => sum + unread_count, 0));

/** The page's address for a conversation. */
export const addressOf = (id) => (id === null ? '' : `#/conversations/${id}`);

// `routing.channels.mode = "private"` of the server asks for `window.Echo.private(…)`, and the backend then
// authorises each channel. Nothing else differs.
const channel = broadcasting.channels === 'private' ? 'private' : 'channel';
const subscribed = new Set();

export async function start() {
  window.Echo[channel]('user.' + userId)
    .subscribed(reload)
    .listen('MessageReceived', receive)
    .listen('ConversationUpdated', ({ conversation }) => takeConversation(conversation))
    .listen('MessageUpdated', take)
    .listen('MessageDeleted', forget);
  watchConnection(reload);
  await reload();
}

function subscribe(conversationId) {
  if (subscribed.has(conversationId)) return;
  subscribed.add(conversationId);
  window.Echo[channel]('messenger.' + conversationId)
    .subscribed(() => messenger.threads[conversationId] && reload())
    .listen('MessageSent', take)
    .listen('MessageStatusUpdated', take)
    .listen('MessageUpdated', take)
    .listen('MessageDeleted', forget)
    .listen('MessageRead', ({ message_id, read_at }) => {
      const isKnown = markRead(messagesOf(conversationId), message_id, read_at);
      if (!isKnown && messenger.threads[conversationId]) reload();
    })
    .listen('UserTyping', ({ typing, expires_in }) => showTyping(conversationId, typing, expires_in))
    .listen('ContactPresence', ({ online, last_seen_at }) => {
      messenger.presence[conversationId] = { online, last_seen_at };
    });
}

// ---- What events bring

/** A record of ours that is new or has changed. */
function take({ message, conversation }) {
  if (!isWhole(message) || !isWhole(conversation)) return reload();
  takeConversation(conversation);
  // The rest of a thread that is not loaded yet comes when it is opened.
  putMessage(threadOf(message.conversation_id).messages, message);
}

async function receive(event) {
  const { message, conversation } = event;
  showTyping(conversation.id, false);
  // With ids only it has to be loaded first.
  await take(event);
  const known = messenger.conversations.find(({ id }) => id === conversation.id);
  if (!known) return;
  const name = contactName(known);
  const body = isWhole(message) ? summary(message) : (known.last_message ?? '');
  announce(`New message from ${name}. ${body}`);
  notify({ title: name, body, tag: `message-${message.id}`, open: () => (location.hash = addressOf(known.id)) });
}

function takeConversation(conversation) {
  if (!isWhole(conversation)) return reload();
  putConversation(messenger.conversations, conversation);
  subscribe(conversation.id);
}

function forget({ message_id, conversation_id, deleted_at }) {
  changeMessage(messagesOf(conversation_id), message_id, deleted_at, { body: null, media_urls: [], deleted_at });
  // What the conversation's last message is now was not said.
  reload();
}

const typingEnds = {};
function showTyping(conversationId, isTyping, seconds = 0) {
  clearTimeout(typingEnds[conversationId]);
  messenger.typing[conversationId] = isTyping;
  if (isTyping) typingEnds[conversationId] = setTimeout(showTyping, seconds * 1_000, conversationId, false);
}

// While the socket is down nobody knows who is online.
watch(() => connection.isDown, (isDown) => isDown && (messenger.presence = {}));

// ---- What the backend knows

const messagesOf = (conversationId) => messenger.threads[conversationId]?.messages ?? [];

function threadOf(conversationId) {
  messenger.threads[conversationId] ??= { messages: [], next: null, hasLoaded: false, isStale: false };
  return messenger.threads[conversationId];
}

let reloading = null;
let isReloadDue = false;

/** Loads the list and the open thread. Calls during a load make one more load after it. */
export function reload() {
  isReloadDue = true;
  reloading ??= (async () => {
    while (isReloadDue) {
      isReloadDue = false;
      await load();
    }
    reloading = null;
  })();
  return reloading;
}

async function load() {
  try {
    await loadConversations();
    messenger.hasLoaded = true;
    connection.isSignedOut = false;
    comeBack();
    if (messenger.openId !== null) await loadThread(messenger.openId);
    // Threads that are not on the screen are loaded when they are opened again.
    for (const id of Object.keys(messenger.threads)) messenger.threads[id].isStale = id !== String(messenger.openId);
    await flush();
    await readOpen();
    await loadAhead();
  } catch (error) {
    connection.isSignedOut = error.status === 401;
    connection.isReachable = !error.isPassing;
    if (error.isPassing) reloadLater();
  }
}

async function loadConversations() {
  const { conversations, next, unread_total: unread } = await get('conversations');
  conversations.forEach(takeConversation);
  if (messenger.hasLoaded) return;
  messenger.nextConversations = next;
  for (let page = 1; page < UNREAD_PAGES && messenger.nextConversations && unreadTotal.value < unread; page += 1) {
    await loadMoreConversations();
  }
}

/** The backend answers again, so the server is there again too: pusher-js would wait up to 15 s before it tries. */
function comeBack() {
  const wasAway = !connection.isReachable;
  connection.isReachable = true;
  if (wasAway && connection.isDown) reconnect();
}

/** One after the other, so that nothing that was asked for has to wait. */
async function loadAhead() {
  for (const conversation of messenger.conversations.slice(0, AHEAD)) {
    if (isReloadDue) return;
    const thread = messenger.threads[conversation.id];
    const isKnown = thread?.hasLoaded && (!thread.isStale || isSettled(conversation, thread.messages.at(-1)));
    if (conversation.last_message_at && !isKnown) await loadThread(conversation.id);
  }
}

/** Whether the last message is known and nothing will become of it. */
const isSettled = (conversation, last) =>
  last && !(last.placed_at < conversation.last_message_at) && !['sending', 'sent', 'scheduled'].includes(last.status);

let later;
function reloadLater() {
  clearTimeout(later);
  later = setTimeout(reload, AGAIN);
}

export async function loadMoreConversations() {
  const { conversations, next } = await get('conversations', { before: messenger.nextConversations });
  conversations.forEach(takeConversation);
  messenger.nextConversations = next;
}

async function loadThread(conversationId) {
  const { messages, next } = await get(`conversations/${conversationId}/messages`);
  const thread = threadOf(conversationId);
  const reachesBack = putNewest(thread.messages, messages);
  // What came by events before it was loaded does not say how far back the thread reaches.
  if (!reachesBack || !thread.hasLoaded) thread.next = next;
  thread.hasLoaded = true;
  thread.isStale = false;
}

export async function loadOlder(conversationId) {
  const thread = messenger.threads[conversationId];
  const { messages, next } = await get(`conversations/${conversationId}/messages`, { before: thread.next });
  messages.forEach((message) => putMessage(thread.messages, message));
  thread.next = next;
}

// ---- What the user does

export async function open(conversationId) {
  messenger.openId = conversationId;
  if (conversationId === null) return;
  // It is there at once: somebody may write before it is loaded.
  const thread = threadOf(conversationId);
  if (!thread.hasLoaded || thread.isStale) await reload();
  await readOpen();
}

export async function startConversation(to, name) {
  const { conversation } = await post('conversations', { to, name: name || undefined });
  takeConversation(conversation);
  return conversation.id;
}

/** Marks what is on the screen as read, once somebody looks at it. */
async function readOpen() {
  const conversation = openConversation.value;
  const lastInbound = messagesOf(messenger.openId).findLast(({ direction }) => direction === 'INBOUND');
  if (!isVisible.value || !conversation?.unread_count || !lastInbound) return;
  try {
    const answer = await post(`conversations/${conversation.id}/read`, { up_to: lastInbound.id });
    takeConversation(answer.conversation);
  } catch {
    // The next load tries again.
  }
}
watch(() => [isVisible.value, openConversation.value?.unread_count, messagesOf(messenger.openId).length], readOpen);

/** Shows a message at once and hands it to the backend; when that fails, again after the next load. */
export async function send(conversation, text, mediaUrls) {
  const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const now = new Date().toISOString().replace('Z', '000Z');
  const message = {
    id: key,
    reference: key,
    isLocal: true,
    conversation_id: conversation.id,
    to_number: conversation.contact.phone_number,
    direction: 'OUTBOUND',
    status: 'sending',
    body: text,
    media_urls: mediaUrls,
    is_internal: conversation.is_internal,
    placed_at: now,
    created_at: now,
    updated_at: now,
  };
  putMessage(messagesOf(conversation.id), message);
  stopTyping(conversation);
  await flush();
}

let flushing = null;

/** Sends what was written, in its order. Repeats do no harm: the key makes each message go out once. */
async function flush() {
  if (!nextLocal()) return;
  flushing ??= (async () => {
    try {
      for (let message = nextLocal(); message; message = nextLocal()) await hand(message);
    } catch {
      // It waits for the next load.
    } finally {
      flushing = null;
    }
  })();
  await flushing;
}

const nextLocal = () =>
  Object.values(messenger.threads)
    .flatMap(({ messages }) => messages)
    .find(({ isLocal, status }) => isLocal && status !== 'failed');

async function hand(message) {
  const { to_number: to, body, media_urls, reference: key } = message;
  try {
    take(await post('messages', { to, text: body || undefined, media_urls, key }));
  } catch (error) {
    if (error.isPassing) {
      message.status = 'waiting';
      reloadLater();
      throw error;
    }
    Object.assign(message, { status: 'failed', error: { code: error.code, title: error.message } });
  }
}

export async function retry(message) {
  if (message.isLocal) {
    message.status = 'sending';
    message.error = null;
    return flush();
  }
  return changed(await post(`messages/${message.id}/retry`));
}

export async function edit(message, text) {
  changed(await post(`messages/${message.id}/edit`, { text }));
  reload();
}

/** `everyone` or `me`. */
export async function remove(message, scope) {
  const messages = messagesOf(message.conversation_id);
  if (!message.isLocal) {
    const answer = await post(`messages/${message.id}/delete`, { scope });
    if (scope === 'everyone') changed(answer);
  }
  if (scope === 'me') messages.splice(messages.findIndex(({ id }) => id === message.id), 1);
  reload();
}

const changed = ({ message }) => putMessage(messagesOf(message.conversation_id), message);

const typedAt = {};

export function startTyping({ id, is_internal }) {
  if (!is_internal || Date.now() - (typedAt[id] ?? 0) < TYPING_PAUSE) return;
  typedAt[id] = Date.now();
  post(`conversations/${id}/typing`, { typing: true }).catch(() => {});
}

export function stopTyping({ id }) {
  if (!typedAt[id]) return;
  delete typedAt[id];
  post(`conversations/${id}/typing`, { typing: false }).catch(() => {});
}
