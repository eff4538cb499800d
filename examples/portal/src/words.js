/** How things are called on the page. */
import { reason } from './failures.js';

export const contactName = ({ contact }) => contact.name || formatNumber(contact.phone_number);

/** `+13125550100` is `(312) 555-0100`; numbers of other countries stay as they are. */
export function formatNumber(number) {
  const [, area, exchange, line] = /^\+1(\d{3})(\d{3})(\d{4})$/.exec(number) ?? [];
  return area ? `(${area}) ${exchange}-${line}` : number;
}

export const initials = (conversation) =>
  conversation.contact.name
    ? conversation.contact.name.split(/\s+/).slice(0, 2).map(([first]) => first.toUpperCase()).join('')
    : '#';

/** One of six colours, always the same for a number. */
export const colour = (conversation) =>
  [...conversation.contact.phone_number].reduce((sum, digit) => (sum * 31 + digit.charCodeAt(0)) % 1_009, 0) % 6;

export function summary(message) {
  if (message.deleted_at) return 'Message deleted';
  return message.body || (message.media_urls.length ? 'Attachment' : '');
}

/**
 * What the row of a conversation says: the last message, `Not sent` with the reason if it failed. `thread` has messages
 * that are known, maybe none.
 */
export function preview(conversation, thread) {
  const last = newest(conversation, thread);
  if (last?.direction === 'OUTBOUND' && isFaulty(last)) {
    const why = reason(last);
    return { isFaulty: true, text: why ? `${statusText(last)}: ${why}` : statusText(last) };
  }
  // Without a text it is a file, or nothing is left.
  const text = last
    ? (last.direction === 'OUTBOUND' ? `You: ${summary(last)}` : summary(last))
    : conversation.last_message || (conversation.last_message_at ? 'Attachment' : 'No messages yet');
  return { isFaulty: false, text };
}

/** The last message of a conversation, if it is known: events may have brought a newer one than its thread has. */
function newest(conversation, thread) {
  const last = thread?.messages.at(-1);
  return last && (last.isLocal || !(last.placed_at < conversation.last_message_at)) ? last : undefined;
}

export const isFaulty = ({ status }) => ['failed', 'unconfirmed'].includes(status);

const STATUS = {
  waiting: 'Waiting for the connection',
  scheduled: 'Scheduled',
  sending: 'Sending…',
  unconfirmed: 'Not confirmed by the carrier',
  sent: 'Sent',
  delivered: 'Delivered',
  read: 'Read',
  failed: 'Not sent',
  cancelled: 'Cancelled',
};

export const statusText = ({ status }) => STATUS[status] ?? status;

const time = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', month: 'long', day: 'numeric' });
const short = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });

export const timeOf = (timestamp) => time.format(new Date(timestamp));

const daysAgo = (timestamp) =>
  Math.round((new Date().setHours(0, 0, 0, 0) - new Date(timestamp).setHours(0, 0, 0, 0)) / 86_400_000);

export function dayOf(timestamp) {
  return ['Today', 'Yesterday'][daysAgo(timestamp)] ?? day.format(new Date(timestamp));
}

/** The time of today, else the day. */
export const when = (timestamp) =>
  daysAgo(timestamp) === 0 ? timeOf(timestamp) : daysAgo(timestamp) === 1 ? 'Yesterday' : short.format(new Date(timestamp));

/** Empty while nobody knows. */
export function presenceText(presence) {
  if (!presence) return '';
  if (presence.online) return 'Online';
  return presence.last_seen_at ? `Last seen ${when(presence.last_seen_at)}` : 'Offline';
}
