// What each server for Node.js agrees to with `child_server.py`: its first line of stdin is its configuration, as JSON;
// its only line of stdout is {"issuer": …, "port": …} and says that it listens; what is meant for people goes to stderr;
// when stdin ends, the parent is gone, and so is this process.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

// Libraries print notices with console.info, which is stdout unless it is turned.
console.info = console.error;
console.log = console.error;

// Node closes idle connections after 5 s; a client that sends at that moment reads no answer. No test asks for that.
const KEEP_ALIVE_MS = 75_000;

// A forked copy of the parent may hold the other end of stdin open after the parent's death.
const PARENT_CHECK_MS = 1_000;

function watchParent() {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(0);
  }, PARENT_CHECK_MS).unref();
  process.on('SIGTERM', () => process.exit(0));
}

function readConfiguration() {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: process.stdin });
    lines.once('line', (line) => {
      try {
        resolve(JSON.parse(line));
      } catch {
        reject(new Error('the first line of stdin is not JSON; send the configuration described in server.mjs'));
      }
    });
    lines.once('close', () => process.exit(0));
  });
}

function listen(server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port: 0 }, () => resolve(server.address().port));
  });
}

// `build` gets the configuration and the issuer, and returns the function that answers requests.
export async function serve(build) {
  watchParent();
  const wanted = await readConfiguration();
  const server = createServer();
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const port = await listen(server);
  const issuer = `http://127.0.0.1:${port}`;
  server.on('request', await build(wanted, issuer));
  process.stdout.write(`${JSON.stringify({ issuer, port })}\n`);
}
