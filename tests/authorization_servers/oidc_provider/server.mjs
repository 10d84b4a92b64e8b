// Starts oidc-provider on a free loopback port. Its configuration:
//
//   clients                 client metadata as RFC 7591 writes it, handed to oidc-provider as it is
//   access_token_lifetime   seconds
//   refresh_token_lifetime  seconds, counted anew for each rotated refresh token
//   grant_lifetime          seconds from consent, an end that no refresh moves
//   groups                  by the name of an account, what its claim `groups` holds; told with the scope `profile`
import { randomBytes } from 'node:crypto';

// First, for it turns what oidc-provider prints to stderr.
import { serve } from '../child.mjs';
import { PresentedTokens, Store } from './bookkeeping.mjs';

const { default: Provider } = await import('oidc-provider');
const { default: MemoryAdapter } = await import('oidc-provider/lib/adapters/memory_adapter.js');

// oidc-provider wants each lifetime set, or writes a notice; these outlive any test and matter to none.
const SIDE_LIFETIME_S = 3_600;

function scopesOf(clients) {
  return [...new Set(['openid', 'offline_access', 'profile', ...clients.flatMap((client) => (client.scope ?? '').split(' '))])]
    .filter(Boolean);
}

function buildProvider(issuer, wanted, store) {
  return new Provider(issuer, {
    adapter: (model) => new MemoryAdapter(model, store),
    claims: { openid: ['sub'], profile: ['groups'] },
    clients: wanted.clients,
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, groups: wanted.groups[id] }) }),
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

await serve(async (wanted, issuer) => {
  const store = new Store();
  const provider = buildProvider(issuer, wanted, store);
  keepBooks(provider, new PresentedTokens(), store);
  provider.on('server_error', (ctx, error) => console.error(`${ctx.method} ${ctx.path}:`, error));
  // oidc-provider checks a registration when it is first used; a wrong one is to fail the start.
  for (const { client_id: id } of wanted.clients) await provider.Client.find(id);
  return provider.callback();
});
