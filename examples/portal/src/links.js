/** Links in what people write, and links to files. Only those to the web: `javascript:` and the like stay text. */
import { broadcasting } from './page.js';

/** Where a link ends: at a space, a quotation mark or an angle bracket. */
const LINK = /https?:\/\/[^\s<>"“”]+/gi;

/** Splits a text into `{text, href}`; `href` is null where it is no link. */
export function parts(text) {
  const found = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(LINK)) {
    const link = withoutPunctuation(match);
    if (!URL.canParse(link)) continue;
    found.push({ text: text.slice(end, index), href: null }, { text: link, href: new URL(link).href });
    end = index + link.length;
  }
  found.push({ text: text.slice(end), href: null });
  return found.filter(({ text }) => text);
}

/** What ends a sentence is no part of its last link, nor is a bracket that was opened before it. */
function withoutPunctuation(link) {
  for (;;) {
    const last = link.at(-1);
    const opens = { ')': '(', ']': '[' }[last];
    const isLoose = opens && link.split(opens).length < link.split(last).length;
    if (!isLoose && !/[.,;:!?'’*_~]/.test(last)) return link;
    link = link.slice(0, -1);
  }
}

/** What browsers may show, by the ending of a file's name. Which of it one can show, only trying tells. */
const SHOWN = {
  picture: /\.(a?png|avif|bmp|gif|hei[cf]s?|hif|jfif|jpe?g?|svg|tiff?|webp)$/i,
  film: /\.(3g2|3gpp?2?|m4v|mov|mp4|ogv|qt|webm)$/i,
  sound: /\.(3ga|aac|aiff?|amr|awb|caf|flac|m4a|mp3|oga|ogg|opus|wave?|weba)$/i,
};

/** How an attachment is shown (`as`: `picture`, `film`, `sound`, or `link`); null if its link leads to anything but the web. */
export function attachment(link) {
  if (!/^https?:\/\//i.test(link) || !URL.canParse(link)) return null;
  const url = here(new URL(link));
  const [as = 'link'] = Object.entries(SHOWN).find(([, endings]) => endings.test(url.pathname)) ?? [];
  return { url: url.href, name: decoded(url.pathname.split('/').pop()) || link, as };
}

/**
 * Links to files keep the address that the server had when they were made. On a developer's machine the server may have
 * another port today; a link's signature does not cover it.
 */
function here(url) {
  const isFile = url.pathname.startsWith('/attachments/');
  if (isFile && isThisMachine(url.hostname) && isThisMachine(broadcasting.host)) {
    url.host = `${broadcasting.host}:${broadcasting.port}`;
  }
  return url;
}

const isThisMachine = (host) => ['127.0.0.1', 'localhost', '[::1]'].includes(host);

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
