// Runs the portal of examples/portal/ and looks at it in headless Chromium, as its users do: what is asked for
// is found by role and label, so that a page without them fails.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { obey } from './lines.mjs';
import { QUIET, shoot } from './pages.mjs';

/** A client that lost its server may wait 15 s before each of its tries. */
const PATIENCE = 35_000;
const VISIBLE = { state: 'visible', timeout: PATIENCE };

let application;
let address;
let browser;
const pages = new Map();

const page = (on) => pages.get(on).page;
const conversation = (on, name) => page(on).locator('.conversation', { hasText: name });
const bubble = (on, text) => page(on).getByRole('listitem').filter({ hasText: text }).and(page(on).locator('.message'));
async function content(message) {
  await message.waitFor(VISIBLE);
  return (await message.innerText()).replaceAll(/\s+/g, ' ').trim();
}
const field = (on) => page(on).getByRole('textbox', { name: 'Message', exact: true });

/** Keeps each state a message was seen in, and each notification. Runs in the page. */
function observe() {
  window.seen = {};
  window.notified = [];
  const note = (message) => {
    const text = message.querySelector('.text')?.textContent;
    const states = (window.seen[text] ??= []);
    if (states.at(-1) !== message.dataset.status) states.push(message.dataset.status);
  };
  new MutationObserver(() => document.querySelectorAll('.message').forEach(note)).observe(document, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ['data-status'],
  });
  let visibility = 'visible';
  Object.defineProperty(document, 'visibilityState', { get: () => visibility });
  window.look = (state) => {
    visibility = state;
    document.dispatchEvent(new Event('visibilitychange'));
  };
  const Native = window.Notification;
  window.Notification = class extends EventTarget {
    static permission = Native.permission;
    static requestPermission = () => Promise.resolve((this.permission = 'granted'));
    constructor(title, { body }) {
      super();
      window.notified.push(`${title}: ${body}`);
    }
    close() {}
  };
}

const chip = (on, name) => page(on).getByRole('list', { name: 'Attachments' }).getByText(name);

/** A file of the driver's machine, or one with this content. */
async function content_of({ path, name, type, base64 }) {
  const buffer = path ? await readFile(path) : Buffer.from(base64, 'base64');
  return { name, mimeType: type, buffer };
}

/** Gives an element a file as a drag or the clipboard does. Runs in the page. */
function transfer(target, { by, name, mimeType, base64 }) {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type: mimeType }));
  const init = { bubbles: true, cancelable: true };
  if (by === 'paste') return target.dispatchEvent(new ClipboardEvent('paste', { ...init, clipboardData: data }));
  for (const type of ['dragenter', 'dragover', 'drop']) {
    const isAccepted = !target.dispatchEvent(new DragEvent(type, { ...init, dataTransfer: data }));
    // A browser drops only where `dragover` was accepted.
    if (type === 'dragover' && !isAccepted) throw new Error('files cannot be dropped here');
  }
}

/** When the page was laid out and painted, whatever was under way. Runs in the page. */
const twoFrames = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

await obey({
  /** Starts the portal; `env` says where the server is. */
  async start({ env }) {
    const server = `${import.meta.dirname}/../../examples/portal/server.mjs`;
    application = spawn('node', [server], {
      env: { ...process.env, ...env, PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: application.stdout })) {
      address = line;
      return line;
    }
    throw new Error('the portal ended');
  },
  /** Looks at a portal that runs already. */
  async visit({ portal }) {
    address = portal;
  },
  /** Signs a user in on a page of its own, with further options for the browser's context. */
  async open({ on, user, executable, options = {} }) {
    browser ??= await chromium.launch({ executablePath: executable, args: QUIET });
    const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ...options });
    context.setDefaultTimeout(PATIENCE);
    await context.addInitScript(observe);
    const page = await context.newPage();
    const errors = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (message) => console.error(on, message.text()));
    pages.set(on, { page, errors });
    await page.goto(`${address}/?user=${user}`);
    await page.getByRole('heading', { name: 'Messages', level: 1 }).waitFor(VISIBLE);
  },
  /** Opens the conversation with this contact. */
  async pick({ on, name }) {
    await conversation(on, name).click();
    await page(on).getByRole('heading', { name, level: 2 }).waitFor(VISIBLE);
  },
  /** Waits until the list shows this contact, with this text in its row. */
  async lists({ on, name, text }) {
    await conversation(on, name).filter({ hasText: text }).waitFor(VISIBLE);
  },
  /** Begins a conversation with a number. */
  async begin({ on, number, name = '' }) {
    await page(on).getByRole('button', { name: 'New message' }).click();
    const dialog = page(on).getByRole('dialog', { name: 'New message' });
    await dialog.getByLabel('Phone number').fill(number);
    await dialog.getByLabel('Name').fill(name);
    await dialog.getByRole('button', { name: 'Begin' }).click();
    await dialog.waitFor({ state: 'hidden' });
  },
  /** Chooses a file in the dialog that the paper clip opens; it lies beside the text that is written next. */
  async upload({ on, ...file }) {
    const opened = page(on).waitForEvent('filechooser');
    await page(on).getByRole('button', { name: 'Attach files' }).click();
    const { name, mimeType, buffer } = await content_of(file);
    await (await opened).setFiles({ name, mimeType, buffer });
    await chip(on, name).waitFor(VISIBLE);
  },
  /** Drops a file on the open conversation, or pastes it where a message is written. */
  async hand_over({ on, by, ...file }) {
    const { name, mimeType, buffer } = await content_of(file);
    const target = by === 'drop' ? page(on).locator('.messages') : field(on);
    await target.evaluate(transfer, { by, name, mimeType, base64: buffer.toString('base64') });
    await chip(on, name).waitFor(VISIBLE);
  },
  /** What must not work without connection: uploads end without an answer. */
  async lose_uploads({ on, lost = true }) {
    const uploads = (url) => url.pathname.startsWith('/attachments/');
    if (lost) await page(on).route(uploads, (route) => route.abort());
    else await page(on).unrouteAll();
  },
  /** Pictures of messages are not there before `release`. */
  async hold_pictures({ on }) {
    const known = pages.get(on);
    const released = new Promise((resolve) => (known.release = resolve));
    const held = async (route) => {
      await released;
      await route.continue();
    };
    await page(on).route((url) => url.pathname.startsWith('/attachments/'), held);
  },
  /** Answers how much higher the messages have become when the pictures are there. */
  async release_pictures({ on, name }) {
    const height = () => page(on).locator('.scroller').evaluate(({ scrollHeight }) => scrollHeight);
    const before = await height();
    pages.get(on).release();
    const picture = page(on).getByRole('img', { name });
    await picture.evaluate((image) => image.decode());
    await page(on).evaluate(twoFrames);
    return (await height()) - before;
  },
  /** Scrolls with the wheel as far up as it goes. */
  async scroll_up({ on }) {
    await page(on).locator('.messages').hover({ position: { x: 5, y: 5 } });
    await page(on).mouse.wheel(0, -20_000);
    await page(on).waitForFunction(() => document.querySelector('.scroller').scrollTop === 0);
    await page(on).evaluate(twoFrames);
  },
  /** Pixels of messages below the visible part, and above it. */
  async scrolled({ on }) {
    await page(on).evaluate(twoFrames);
    return page(on).locator('.scroller').evaluate((scroller) => ({
      below: Math.round(scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight),
      above: Math.round(scroller.scrollTop),
    }));
  },
  /** The names in the list, from its top. */
  async order({ on }) {
    const names = await page(on).locator('.conversation .name').allInnerTexts();
    return names.map((name) => name.split('\n')[0].trim());
  },
  /** Waits for this order of the list. */
  async ordered({ on, names }) {
    const is = (names) => {
      const rows = [...document.querySelectorAll('.conversation')];
      return names.every((name, index) => rows[index]?.innerText.includes(name));
    };
    await page(on).waitForFunction(is, names, { timeout: PATIENCE });
  },
  /** Links in the text of a message: what they say, where they lead, and what they may do there. */
  async links({ on, text }) {
    return bubble(on, text)
      .locator('.text a')
      .evaluateAll((links) => links.map(({ textContent, href, rel, target }) => ({ textContent, href, rel, target })));
  },
  /** All elements inside the text of a message, by name. */
  async elements({ on, text }) {
    return bubble(on, text).locator('.text *').evaluateAll((elements) => elements.map(({ localName }) => localName));
  },
  async write({ on, text }) {
    await field(on).fill(text);
    await page(on).getByRole('button', { name: 'Send' }).click();
  },
  async type({ on, text }) {
    await field(on).pressSequentially(text);
  },
  async press({ on, keys }) {
    for (const key of keys) await page(on).keyboard.press(key);
  },
  /** Waits for a message with this text, in this state if one is given. */
  async sees({ on, text, status }) {
    return content(status ? bubble(on, text).and(page(on).locator(`[data-status="${status}"]`)) : bubble(on, text));
  },
  /** Waits for a message with this text from the other side. */
  async gets({ on, text }) {
    return content(bubble(on, text).and(page(on).locator(':not(.own)')));
  },
  /** Waits for this text, or until it is gone. */
  async shows({ on, text, within = 'body', gone = false }) {
    const found = page(on).locator(within).getByText(text).locator('visible=true').first();
    await found.waitFor({ ...VISIBLE, state: gone ? 'hidden' : 'visible' });
  },
  /** Waits for this text where only screen readers find it. */
  async holds({ on, text, within }) {
    await page(on).locator(within, { hasText: text }).waitFor({ ...VISIBLE, state: 'attached' });
  },
  /** The states a message with exactly this text was shown in. */
  async states({ on, text }) {
    return page(on).evaluate((text) => window.seen[text] ?? [], text);
  },
  /** The texts of all messages of the open conversation. */
  async texts({ on }) {
    return page(on).locator('.message .text').allTextContents();
  },
  async act({ on, text, action }) {
    await bubble(on, text).hover();
    await bubble(on, text).getByRole('button', { name: /^Actions for/ }).click();
    await bubble(on, text).getByRole('button', { name: action }).click();
  },
  async click({ on, name }) {
    await page(on).getByRole('button', { name }).click();
  },
  async edit({ on, text }) {
    await field(on).fill(text);
    await page(on).getByRole('button', { name: 'Save' }).click();
    await page(on).getByRole('button', { name: 'Send' }).waitFor(VISIBLE);
  },
  /** Whether somebody looks at the page: `visible` or `hidden`. */
  async look({ on, state }) {
    await page(on).evaluate((state) => window.look(state), state);
  },
  async notified({ on, count }) {
    await page(on).waitForFunction((count) => window.notified.length >= count, count, { timeout: PATIENCE });
    return page(on).evaluate(() => window.notified);
  },
  async title({ on, title }) {
    await page(on).waitForFunction((title) => document.title === title, title, { timeout: PATIENCE });
  },
  /** Waits until what has this name has the focus; nothing may cover it. */
  async focus({ on, name }) {
    const has = (name) => {
      const element = document.activeElement;
      const { x, y, width, height } = element.getBoundingClientRect();
      const isFree = element.contains(document.elementFromPoint(x + width / 2, y + height / 2));
      return isFree && (element.ariaLabel ?? element.innerText).trim() === name;
    };
    await page(on).waitForFunction(has, name, { timeout: PATIENCE });
  },
  /** Whether the page is as wide as its window, so that nobody must scroll sideways. */
  async fits({ on }) {
    return page(on).evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
  },
  /** Cuts the page's WebSocket and lets none connect, until `mend`. */
  async cut({ on }) {
    const known = pages.get(on);
    if (known.isCut === undefined) {
      await known.page.routeWebSocket(/./, (socket) => (known.isCut ? socket.close() : socket.connectToServer()));
    }
    known.isCut = true;
    await known.page.evaluate(() => {
      const { pusher } = window.Echo.connector;
      pusher.disconnect();
      pusher.connect();
    });
  },
  async mend({ on }) {
    pages.get(on).isCut = false;
  },
  /** The next message is handed over, but the page never hears so. */
  async lose_answer({ on }) {
    const lose = async (route) => {
      await route.fetch();
      await route.abort();
    };
    await page(on).route('**/api/messages', lose, { times: 1 });
  },
  /** Presses Tab (or Shift+Tab) until a control with this name has the focus, which must be seen. */
  async tab_to({ on, name, back = false }) {
    for (let presses = 0; presses < 40; presses += 1) {
      await page(on).keyboard.press(back ? 'Shift+Tab' : 'Tab');
      const { label, outline } = await page(on).evaluate(() => {
        const element = document.activeElement;
        const label = element.ariaLabel ?? element.innerText.replaceAll(/\s+/g, ' ').trim();
        return { label, outline: getComputedStyle(element).outlineStyle };
      });
      if (!label.includes(name)) continue;
      if (outline === 'none') throw new Error(`the focus on ${label} is not seen`);
      return label;
    }
    throw new Error(`no Tab leads to ${name}`);
  },
  /** What a checker of the rules for accessible pages complains of. */
  async violations({ on }) {
    const source = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
    await page(on).evaluate(source);
    return page(on).evaluate(async () => {
      const { violations } = await window.axe.run();
      return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
    });
  },
  /** Whether a picture was loaded. */
  async pictures({ on, name }) {
    const picture = page(on).getByRole('img', { name });
    await picture.waitFor(VISIBLE);
    await picture.evaluate((image) => image.decode());
  },
  /** Whether a sound or a film can be played. */
  async plays({ on, name }) {
    const player = page(on).getByLabel(name).and(page(on).locator('audio, video'));
    await player.waitFor(VISIBLE);
    await player.evaluate(
      (media) => media.readyState || new Promise((done) => media.addEventListener('loadedmetadata', done, { once: true })),
    );
  },
  async leave({ on }) {
    await page(on).close();
    pages.delete(on);
  },
  async reload({ on }) {
    await page(on).reload();
  },
  /** The status of a request to the portal, as this page's user, and its body if asked for. */
  async request({ on, method = 'GET', path, form, body, whole = false }) {
    const response = await page(on).context().request.fetch(`${address}${path}`, {
      method,
      form,
      data: body,
      maxRedirects: 0,
    });
    return whole ? { status: response.status(), body: await response.text() } : response.status();
  },
  screenshot: ({ on, path }) => shoot(page(on), path),
  /** Errors of the page's scripts. */
  async errors({ on }) {
    return pages.get(on).errors;
  },
  async close() {
    await browser.close();
    application?.kill();
  },
});
