/** The portal's own routes, relative to the page. */

/** An answer that is not 200, or none at all (`status` 0). `code` is the server's, as in its `error.code`. */
export class ApiError extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const get = (path, query = {}) => call('GET', `${path}?${new URLSearchParams(query)}`);
export const post = (path, body = {}) => call('POST', path, JSON.stringify(body));

/** Uploads a file for a conversation; returns its link. */
export async function upload(conversation, file) {
  const { name, type, size } = file;
  const { attachment, upload: to } = await post('attachments', {
    conversation_id: conversation.id,
    name,
    content_type: type || 'application/octet-stream',
    size,
  });
  const response = await fetch(to.url, { method: to.method, headers: to.headers, body: file }).catch(() => null);
  if (!response) throw new ApiError(0, 'The connection failed.');
  if (!response.ok) throw await refusal(response);
  return attachment.url;
}

async function refusal(response) {
  const { error } = await response.json().catch(() => ({}));
  return new ApiError(response.status, error?.message ?? 'That did not work.', error?.code);
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
  if (!response.ok) throw await refusal(response);
  return response.json().catch(() => {
    throw new ApiError(0, 'The portal gave no readable answer.');
  });
}
