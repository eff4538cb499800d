// Builds a page of a Laravel project with Vite, and opens it in headless Chromium for several visitors.
import { readFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { extname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { obey } from './lines.mjs';
import { QUIET } from './pages.mjs';
import { openPortal } from './portal.mjs';

// Vite is installed for the example portal.
const example = createRequire(`${import.meta.dirname}/../../examples/portal/package.json`);
const load = async (name) => import(pathToFileURL(example.resolve(name)));
// The names under which package.json has the newest releases.
const alias = [
  { find: /^laravel-echo$/, replacement: 'laravel-echo-2' },
  { find: /^pusher-js$/, replacement: 'pusher-js-8' },
];
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

let browser;
let files;
const pages = new Map();

/** What a web server has to answer for a built page, by path. */
async function built(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const served = entries.filter((entry) => entry.isFile()).map(async ({ parentPath, name }) => {
    const path = join(parentPath, name);
    return [`/${relative(folder, path)}`, { type: TYPES[extname(name)], body: await readFile(path) }];
  });
  return Object.fromEntries(await Promise.all(served));
}

await obey({
  async build({ folder, executable }) {
    const [{ build }, { default: vue }] = await Promise.all([load('vite'), load('@vitejs/plugin-vue')]);
    await build({ root: folder, configFile: false, logLevel: 'silent', plugins: [vue()], resolve: { alias, preserveSymlinks: true } });
    files = await built(join(folder, 'dist'));
    browser = await chromium.launch({ executablePath: executable, args: QUIET });
  },
  // Every visitor has an application of their own, which takes them for `who`.
  async open({ on, app, who }) {
    const portal = await openPortal([app], files, { key: app.key, who });
    const page = await browser.newPage();
    page.on('pageerror', (error) => console.error(error));
    page.on('console', (message) => console.error(message.text()));
    await page.goto(`${portal.url}/index.html`);
    pages.set(on, { page, portal });
  },
  async sees({ on, text }) {
    await pages.get(on).page.getByText(text, { exact: true }).waitFor();
  },
  async close({ on }) {
    const { page, portal } = pages.get(on);
    await page.close();
    portal.close();
  },
  end: () => browser.close(),
});
