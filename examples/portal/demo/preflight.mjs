// Checks this machine for the demonstration, before cargo builds for minutes.
import { spawnSync } from 'node:child_process';
import { ports } from './ports.mjs';

try {
  if (!process.env.TELNYX_API_KEY) findPython();
  await ports();
} catch (error) {
  console.error(`\n${error.message}`);
  process.exit(1);
}

/** The stand-in of the carrier is written in it. */
function findPython() {
  const { status, error } = spawnSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))']);
  if (!error && status === 0) return;
  throw new Error(`The stand-in of the carrier needs Python 3.11 or newer as python3, ${error ? 'which was not found' : 'but this one is older'}.`);
}
