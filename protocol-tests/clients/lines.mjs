// How a driver talks to the tests: one JSON object a line.
// In:  {"id":1,"do":"subscribe", …}
// Out: {"id":1,"ok":…} or {"id":1,"error":"…"} for each command, and reports without an id.
import { createInterface } from 'node:readline';

export function report(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

/** Runs commands in the order they arrive until stdin closes; then the process ends. */
export async function obey(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, do: name, ...options } = JSON.parse(line);
    try {
      report({ id, ok: (await commands[name](options)) ?? null });
    } catch (error) {
      report({ id, error: String(error?.message ?? error), status: error?.status, body: error?.body });
    }
  }
  process.exit(0);
}
