// A publisher's HTTP clients that keep their connections: Node's agent and fetch (undici).
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { obey } from './lines.mjs';

function ask(url, agent) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve({ status: answer.statusCode, header: answer.headers['keep-alive'], socket: sent.socket }));
    });
    sent.on('error', reject);
    sent.end();
  });
}

await obey({
  // Who ends the kept connection, and after how long.
  async end_of_agent({ url }) {
    // Without a timeout of its own the agent does not look at the server's.
    const { header, socket } = await ask(url, new Agent({ keepAlive: true, timeout: 60_000 }));
    const start = performance.now();
    let by = 'client';
    socket.on('end', () => (by = 'server'));
    await new Promise((resolve) => socket.on('close', resolve));
    return { header, by, seconds: (performance.now() - start) / 1000 };
  },
  // Statuses of requests with these pauses between them.
  async fetches({ url, pauses }) {
    const statuses = [];
    for (const pause of pauses) {
      await sleep(pause);
      statuses.push((await fetch(url)).status);
    }
    return statuses;
  },
});
