// Starts oidc-provider on a free loopback port. The first line of stdin is the configuration, as JSON:
//
//   clients                 client metadata as RFC 7591 writes it, handed to oidc-provider as it is
//   access_token_lifetime   seconds
//   refresh_token_lifetime  seconds, counted anew for each rotated refresh token
//   grant_lifetime          seconds from consent, an end that no refresh moves
//
// The first and only line of stdout is {"issuer": …, "port": …}, written when the server listens. Everything that is
// meant for people goes to stderr. When stdin ends, the parent is gone, and so is this process.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { PresentedTokens, Store } from './bookkeeping.mjs';

// oidc-provider prints notices with console.info, which is stdout unless it is turned.
console.info = console.error;
console.log = console.error;
const { default: Provider } = await import('oidc-provider');
const { default: MemoryAdapter } = await import('oidc-provider/lib/adapters/memory_adapter.js');

// Node closes idle connections after 5 s; a client that sends at that moment reads no answer. No test asks for that.
const KEEP_ALIVE_MS = 75_000;

// A forked copy of the parent may hold the other end of stdin open after the parent's death.
const PARENT_CHECK_MS = 1_000;

// oidc-provider wants each lifetime set, or writes a notice; these outlive any test and matter to none.
const SIDE_LIFETIME_S = 3_600;

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

function scopesOf(clients) {
  return [...new Set(['openid', 'offline_access', ...clients.flatMap((client) => (client.scope ?? '').split(' '))])]
    .filter(Boolean);
}

function buildProvider(issuer, wanted, store) {
  return new Provider(issuer, {
    adapter: (model) => new MemoryAdapter(model, store),
    clients: wanted.clients,
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    pkce: { required: () => false },
    rotateRefreshToken: true,
    scopes: scopesOf(wanted.clients),
    ttl: {
      AccessToken: wanted.access_token_lifetime,
      Grant: wanted.grant_lifetime,
      IdToken: SIDE_LIFETIME_S,
      Interaction: SIDE_LIFETIME_S,
      RefreshToken: wanted.refresh_token_lifetime,
      Session: SIDE_LIFETIME_S,
    },
  });
}

function keepBooks(provider, presented, store) {
  provider.use(async (ctx, next) => {
    if (ctx.method === 'GET' && ctx.path === '/__seen') {
      ctx.body = { ...presented.report(), grants_alive: store.grantsAlive() };
      return;
    }
    try {
      await next();
    } finally {
      // By now oidc-provider has read the form itself, and the answer has not left yet: whoever reads the answer and
      // then asks for the count finds the presentation in it.
      if (ctx.oidc?.route === 'token') presented.record(ctx.oidc.body?.refresh_token);
    }
  });
}

watchParent();
const wanted = await readConfiguration();
const server = createServer();
server.keepAliveTimeout = KEEP_ALIVE_MS;
const port = await listen(server);
const issuer = `http://127.0.0.1:${port}`;
const store = new Store();
const provider = buildProvider(issuer, wanted, store);
keepBooks(provider, new PresentedTokens(), store);
provider.on('server_error', (ctx, error) => console.error(`${ctx.method} ${ctx.path}:`, error));
server.on('request', provider.callback());
// oidc-provider checks a registration when it is first used; a wrong one is to fail the start.
for (const { client_id: id } of wanted.clients) await provider.Client.find(id);
process.stdout.write(`${JSON.stringify({ issuer, port })}\n`);
