// Ports of the demonstration. If a port is taken, an error names it; the demonstration takes no other port instead, because links in
// messages of earlier runs, bookmarks and the settings of other programs would then lead nowhere.
import { createServer } from 'node:net';

/** The ports of the server and of the portal. Throws a sentence for people. */
export const ports = async () => ({
  server: await port('PUSHER_PORT', 6001, 'switchboard'),
  portal: await port('PORT', 8000, 'The portal'),
});

/** The port that `variable` names; 0 is any that is free. */
async function port(variable, byDefault, name) {
  const text = process.env[variable] || String(byDefault);
  const wanted = Number(text);
  if (!/^\d+$/.test(text) || wanted > 65_535) {
    throw new Error(`${variable}=${text} is no port: write a number from 1 to 65535, as in ${variable}=${byDefault}.`);
  }
  try {
    return await probe(wanted);
  } catch (error) {
    throw new Error(sentence(error, { variable, wanted, name }));
  }
}

/** Whether this port can be listened on; answers it. */
function probe(wanted) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(wanted, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function sentence({ code, message }, { variable, wanted, name }) {
  const other = `choose another port: ${variable}=${wanted < 65_535 ? wanted + 1 : 8001} make demo`;
  if (code === 'EADDRINUSE') {
    return (
      `${name} cannot start: another program listens on port ${wanted} of this machine.\n` +
      `Stop that program (\`ss -ltnp "sport = :${wanted}"\` shows it), or ${other}`
    );
  }
  if (code === 'EACCES') return `${name} cannot start: this user may not listen on port ${wanted}. To go on, ${other}`;
  return `${name} cannot listen on port ${wanted}: ${message}`;
}
