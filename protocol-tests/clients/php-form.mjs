// Requests as pusher-php-server 7 writes them (src/Pusher.php: make_event, createPusherRequest, sign):
// one channel as `channel`, several as `channels`; array parameters joined by a comma in the signed
// text but sent as info[0]=…&info[1]=… with encoded brackets and commas; the `path` option in front of
// the address and not in the signature; JSON with \/ and \uXXXX.
import { createHash, createHmac } from 'node:crypto';

export async function sendAsPhp({ app, port, path = '', method, resource, params = {}, body }) {
  const text = body === undefined ? '' : phpJson(body);
  const signed = {
    auth_key: app.key,
    auth_timestamp: Math.floor(Date.now() / 1000),
    auth_version: '1.0',
    ...params,
    ...(text ? { body_md5: createHash('md5').update(text).digest('hex') } : {}),
  };
  const resourcePath = `/apps/${app.id}${resource}`;
  const stringToSign = Object.keys(signed).sort().map((key) => `${key}=${[signed[key]].flat().join(',')}`).join('&');
  signed.auth_signature = createHmac('sha256', app.secret).update(`${method}\n${resourcePath}\n${stringToSign}`).digest('hex');

  const response = await fetch(`http://127.0.0.1:${port}${path}${resourcePath}?${phpQuery(signed)}`, {
    method,
    headers: { 'content-type': 'application/json', 'x-pusher-library': 'pusher-http-php 7.2.6' },
    body: text || undefined,
  });
  return { status: response.status, body: await response.json() };
}

/** PHP's http_build_query. */
function phpQuery(params) {
  const pairs = Object.entries(params).flatMap(([key, value]) =>
    Array.isArray(value) ? value.map((item, at) => [`${key}[${at}]`, item]) : [[key, value]]);
  return pairs.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
}

/** PHP's json_encode with its default flags. */
function phpJson(value) {
  return JSON.stringify(value)
    .replaceAll('/', '\\/')
    .replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
