// The programs of the demonstration: started here, and ended with it however it ends.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const running = new Set();
let isEnding = false;

/** Ends everything that was started, the last first, and then this process. */
export function end(code) {
  if (isEnding) return;
  isEnding = true;
  process.exitCode = code;
  for (const { child, guard } of [...running].reverse()) {
    guard.kill();
    child.kill();
  }
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end(0));

/** Says a sentence and ends, unless that happens already. */
export function giveUp(sentence) {
  if (!isEnding) console.error(`\n${sentence}`);
  end(1);
}

/**
 * Starts a program. Answers, once it has printed its first line, that line, its process id, and a promise of its end: of the
 * sentence that says how it ended, or of nothing if it was ended from here.
 */
export async function start(name, command, args, env) {
  // In a group of its own, so that Ctrl-C reaches this process alone, which then ends the others.
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const ended = new Promise((resolve) => {
    child.once('error', ({ code, message }) => resolve(code === 'ENOENT' ? `${name} needs ${command}, which was not found.` : message));
    child.once('exit', (code, signal) => resolve(`${name} ended (${signal ?? `code ${code}`}).`));
  }).then((sentence) => (isEnding ? undefined : sentence));
  if (child.pid) {
    const entry = { child, guard: watchOver(child.pid) };
    running.add(entry);
    child.once('exit', () => {
      running.delete(entry);
      entry.guard.kill();
    });
  }
  const lines = createInterface({ input: child.stdout });
  const line = await Promise.race([new Promise((resolve) => lines.once('line', resolve)), ended.then(() => undefined)]);
  if (line === undefined) throw new Error((await ended) ?? `${name} was ended.`);
  return { line, pid: child.pid, ended };
}

/** Ends a program when this process is gone, however it went: its end of the pipe is closed then. */
function watchOver(pid) {
  return spawn('sh', ['-c', 'read -r _; kill "$1"', 'guard', String(pid)], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
}
