// Opens examples/echo.html in headless Chromium.
import { readFile } from 'node:fs/promises';
import { chromium } from 'playwright-core';
import { obey } from './lines.mjs';
import { QUIET, shoot } from './pages.mjs';

// What the content delivery network has is what npm has; the page's hashes would tell.
const PACKAGES = { 'pusher-js': 'pusher-js-8', 'laravel-echo': 'laravel-echo-2' };
let isNetworkThere = true;
const fulfill = async (route) => {
  if (!isNetworkThere) return route.abort('internetdisconnected');
  const [, name, file] = /\/npm\/([\w-]+)@[\d.]+\/(.*)$/.exec(route.request().url());
  await route.fulfill({
    body: await readFile(`${import.meta.dirname}/../node_modules/${PACKAGES[name]}/${file}`),
    contentType: 'text/javascript',
    headers: { 'access-control-allow-origin': '*' },
  });
};

let browser;
let page;

await obey({
  async open({ url, executable }) {
    browser = await chromium.launch({ executablePath: executable, args: QUIET });
    page = await browser.newPage({ viewport: { width: 800, height: 500 } });
    page.on('pageerror', (error) => console.error(error));
    page.on('console', (message) => console.error(message.text()));
    await page.route('https://cdn.jsdelivr.net/**', fulfill);
    await page.goto(url);
  },
  // Whether the scripts' host can be reached.
  async network({ isThere }) {
    isNetworkThere = isThere;
  },
  // Fills in the form, presses the button, and answers what the page then says that has this text in it.
  async listen({ key, server, until }) {
    await page.getByLabel('Key').fill(key);
    await page.getByLabel('Server', { exact: true }).fill(server);
    await page.getByRole('button', { name: 'Listen' }).click();
    const state = page.getByRole('status').filter({ hasText: until });
    await state.waitFor();
    return state.innerText();
  },
  // Waits for so many events and returns their texts.
  async events({ count }) {
    await page.locator('#events li').nth(count - 1).waitFor();
    return page.locator('#events li').allTextContents();
  },
  screenshot: ({ path }) => shoot(page, path),
  async close() {
    await browser.close();
  },
});
