// What the drivers of Chromium have in common.
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Arguments that keep Chromium from talking to anybody but the page's servers. */
export const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export async function shoot(page, path) {
  await mkdir(dirname(path), { recursive: true });
  await page.screenshot({ path });
}
