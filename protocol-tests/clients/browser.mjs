// Opens pages in headless Chromium, and runs the example's application for them.
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { obey } from './lines.mjs';

const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const example = `${import.meta.dirname}/../../examples/echo`;
let browser;
let page;
let application;

await obey({
  // Returns the address of the page.
  async start({ env }) {
    application = spawn('node', [`${example}/server.mjs`], {
      env: { ...process.env, ...env, PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: application.stdout })) return line;
    throw new Error('the example ended');
  },
  async open({ url, executable }) {
    browser = await chromium.launch({ executablePath: executable, args: QUIET });
    page = await browser.newPage({ viewport: { width: 800, height: 500 } });
    page.on('pageerror', (error) => console.error(error));
    page.on('console', (message) => console.error(message.text()));
    await page.goto(url);
  },
  // Waits until the list has this many items and returns their texts.
  async items({ list, count }) {
    await page.locator(`#${list} li`).nth(count - 1).waitFor();
    return page.locator(`#${list} li`).allTextContents();
  },
  async screenshot({ path }) {
    await mkdir(dirname(path), { recursive: true });
    await page.screenshot({ path });
  },
  async close() {
    await browser.close();
    application.kill();
  },
});
