// A page of another origin in headless Chromium, and a sandboxed frame in it, whose origin is `null`.
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { obey } from './lines.mjs';
import { QUIET } from './pages.mjs';

let page;
let sandbox;

/** What a script of the page gets from `fetch`; a refusal by the browser is a TypeError without any detail. */
async function call({ url, options, read }) {
  try {
    const answer = await fetch(url, options);
    const headers = Object.fromEntries(read.map((name) => [name, answer.headers.get(name)]));
    return { status: answer.status, headers, body: (await answer.text()).slice(0, 500) };
  } catch (error) {
    return { refused: error.name };
  }
}

/** The first frame of a WebSocket. */
const listen = ({ url }) =>
  new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onmessage = ({ data }) => resolve(JSON.parse(data));
    socket.onerror = () => resolve({ event: 'error' });
  });

await obey({
  async open({ executable }) {
    const server = createServer((_, answer) => {
      answer.setHeader('content-type', 'text/html');
      answer.end('<!doctype html><title>page</title><iframe sandbox="allow-scripts" srcdoc="sandboxed"></iframe>');
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const origin = `http://127.0.0.1:${server.address().port}`;
    const browser = await chromium.launch({ executablePath: executable, args: QUIET });
    page = await browser.newPage();
    await page.goto(origin);
    sandbox = page.frames().find((frame) => frame !== page.mainFrame());
    return origin;
  },
  call: ({ from, url, options = {}, read = [], size }) => {
    const body = size ? 'x'.repeat(size) : options.body;
    const frame = from === 'sandbox' ? sandbox : page.mainFrame();
    return frame.evaluate(call, { url, options: { ...options, body }, read });
  },
  listen: ({ from, url }) => (from === 'sandbox' ? sandbox : page.mainFrame()).evaluate(listen, { url }),
});
