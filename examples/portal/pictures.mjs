// Takes the pictures of the README: `node examples/portal/pictures.mjs` after `make demo` and `make deps`, which build and
// install what it needs. It runs a demonstration of its own, on free ports and with fresh data.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';

const tests = `${import.meta.dirname}/../../protocol-tests`;
const { chromium } = createRequire(`${tests}/package.json`)('playwright-core');
const folder = `${import.meta.dirname}/../../docs/pictures`;

/** Starts the demonstration; answers the links of its users, by name, and how to end it. */
async function demonstrate(home) {
  const env = { ...process.env, DATA_DIR: home, PUSHER_PORT: '0', PORT: '0', TELNYX_API_KEY: '' };
  const demo = spawn(process.execPath, [`${import.meta.dirname}/demo.mjs`], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const links = {};
  for await (const line of createInterface({ input: demo.stdout })) {
    const [, name, link] = /^ {2}(\w+ \w+) +(http:\S+)$/.exec(line) ?? [];
    if (name) links[name] = link;
    if (line === 'Ctrl-C ends it.') break;
  }
  const end = () => new Promise((ended) => demo.once('exit', ended).kill('SIGINT'));
  return { links, end };
}

/** All of it was written within a second: the pictures show a morning. The same moment stays the same wherever it stands. */
function morning(timestamps) {
  const day = new Date().toISOString().slice(0, 10);
  const start = Date.parse(`${day}T14:02:00Z`);
  const moments = [...new Set(timestamps)].sort();
  return new Map(moments.map((moment, index) => [moment, `${new Date(start + index * 7 * 60_000).toISOString().slice(0, -1)}000Z`]));
}

async function take(browser, links, colorScheme) {
  const look = { viewport: { width: 1060, height: 720 }, deviceScaleFactor: 2, colorScheme, locale: 'en-US', timezoneId: 'America/Chicago' };
  const context = await browser.newContext(look);
  const ben = await context.newPage();
  await ben.goto(links['Ben Ortiz']);
  const ann = await context.newPage();
  await ann.goto(links['Ann Lee']);
  const api = async (path) => (await context.request.get(new URL(`/1/api/${path}`, links['Ann Lee']).href)).json();
  const { conversations } = await api('conversations');
  const threads = await Promise.all(conversations.map(({ id }) => api(`conversations/${id}/messages`)));
  const times = morning(threads.flatMap(({ messages }) => messages.map(({ placed_at }) => placed_at)));
  await ann.route('**/api/conversations**', async (route) => {
    const response = await route.fetch();
    let body = await response.text();
    for (const [from, to] of times) body = body.replaceAll(`"${from}"`, `"${to}"`);
    await route.fulfill({ response, body });
  });
  await ann.reload();
  await ann.locator('.conversation', { hasText: 'Ben Ortiz' }).click();
  await ann.locator('.message img').first().evaluate((image) => image.decode());
  await ann.getByText('Not sent').first().waitFor();
  await ann.locator('header', { hasText: 'Online' }).waitFor();
  await ann.locator('.message .sign-read').last().waitFor();
  await ann.evaluate(() => document.fonts.ready);
  const session = await context.newCDPSession(ann);
  const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 80 });
  const file = `${folder}/messenger-${colorScheme}.webp`;
  await writeFile(file, Buffer.from(data, 'base64'));
  console.log(`${file}: ${Math.round((data.length * 3) / 4 / 1000)} KB`);
  await context.close();
}

const home = await mkdtemp(`${tmpdir()}/pictures-`);
const { links, end } = await demonstrate(home);
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
try {
  await mkdir(folder, { recursive: true });
  for (const scheme of ['light', 'dark']) await take(browser, links, scheme);
} finally {
  await browser.close();
  await end();
  await rm(home, { recursive: true });
}
