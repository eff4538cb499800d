/** Why something did not work, in words for people. What the carrier and the server say is for operators. */

/** Reasons of messages that were not sent: by the carrier's code, or by the server's own. */
const REASONS = {
  'The number is wrong or cannot receive text messages': ['10016', '40001', '40012', '40310', 'invalid_number'],
  'The recipient does not want text messages': ['40300', 'opted_out'],
  'The mobile network took it for spam': ['40002', '40003', '40015', '40322'],
  'The phone cannot be reached at the moment': ['40005', '40006', '40014'],
  'The mobile network of the recipient refused it': ['40004', '40008', 'delivery_failed'],
  'The text is too long': ['40302', 'too_long'],
  'The attachment is too large for a text message, or of a kind that phones cannot show': ['40317'],
  'Text messages to this country are not set up': ['40309', '40331'],
  'Sending was not possible for too long': ['expired'],
  'Too many messages in a short time': ['10011', '40011', '40318', '40333', 'rate_limited'],
  'This portal cannot send text messages at the moment': [
    ...['10009', '10010', '20012', '20100', '40010', '40013', '40305', '40306', '40312', '40314', '40315', '40320', '40321', '40329'],
    'messaging_disabled',
  ],
  'Nobody has this number at the moment': ['recipient_unassigned'],
  'This is your own number': ['self_message'],
};
const REASON_OF = new Map(Object.entries(REASONS).flatMap(([reason, codes]) => codes.map((code) => [code, reason])));

/** Reasons that trying again does not mend, as long as neither message nor number changes. */
const FINAL = new Set(['opted_out', 'too_long', 'invalid_number', 'self_message', '40300', '40302', '40317']);

/** The reason of a failed message; empty if none is known. */
export function reason({ error, status }) {
  if (status === 'unconfirmed') return 'It may have arrived. Trying again may send it twice';
  if (!error) return '';
  // The router's own sentences are for people.
  return REASON_OF.get(error.code) ?? (error.carrier ? 'The mobile network refused it' : withoutStop(error.title));
}

const withoutStop = (sentence = '') => sentence.replace(/\.$/, '');

export const canBeTriedAgain = ({ error }) => !FINAL.has(error?.code);

const KINDS = 'Pictures, PDF, audio, video and text files, contacts and calendar entries can be sent.';

/** Why a file was not taken: `error` is an `ApiError` of the announcement or of the upload. */
export function uploadProblem(file, error) {
  const name = `“${file.name}”`;
  if (error.code === 'too_large' || error.status === 413) {
    const [most] = /\d+(?= bytes)/.exec(error.message) ?? [];
    const limit = most ? ` The limit is ${size(Number(most))}.` : '';
    return `${name} is too large (${size(file.size)}).${limit}`;
  }
  if (error.code === 'type_not_allowed') return `${name} cannot be sent: files of this kind are not allowed. ${KINDS}`;
  if (file.size === 0) return `${name} is empty.`;
  if (error.code === 'attachments_disabled') return 'This portal is not set up for files.';
  if (error.status === 0) return `${name} was not uploaded: the connection failed.`;
  if (error.isPassing) return `${name} was not uploaded: the portal is not available at the moment.`;
  return `${name} was not uploaded.`;
}

/** `5000000` is `5 MB`. */
function size(bytes) {
  if (bytes < 1_000) return `${bytes} bytes`;
  const [value, unit] = bytes < 999_500 ? [bytes / 1_000, 'KB'] : [bytes / 1_000_000, 'MB'];
  return `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)} ${unit}`;
}
