/** The portal's own routes, relative to the page. */

/** An answer that is not 200, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const get = (path, query = {}) => call('GET', `${path}?${new URLSearchParams(query)}`);
export const post = (path, body = {}) => call('POST', path, JSON.stringify(body));

/** Brings a file for a conversation; answers where it is then. */
export async function upload(conversation, file) {
  const { name, type, size } = file;
  const { attachment, upload: to } = await post('attachments', {
    conversation_id: conversation.id,
    name,
    content_type: type || 'application/octet-stream',
    size,
  });
  const response = await fetch(to.url, { method: to.method, headers: to.headers, body: file }).catch(() => null);
  if (!response?.ok) throw new ApiError(response?.status ?? 0, `${name} could not be uploaded.`);
  return attachment.url;
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(`api/${path}`, {
      method,
      body,
      headers: { 'content-type': 'application/json' },
      signal: AbortSignal.timeout(15_000),
    });
  } catch {
    throw new ApiError(0, 'The portal cannot be reached.');
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.error?.message ?? 'That did not work.');
  return answer;
}
