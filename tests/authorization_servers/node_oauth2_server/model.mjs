// What the library asks an application to keep, in memory.
import { timingSafeEqual } from 'node:crypto';

export class Model {
  #clients;
  #codes = new Map();
  #accessTokens = new Map();
  #refreshTokens = new Map();

  // Clients as RFC 7591 writes them.
  constructor(clients) {
    this.#clients = new Map(clients.map((client) => [client.client_id, client]));
  }

  // The secret is null at the authorization endpoint, where clients do not authenticate.
  getClient(id, secret) {
    const client = this.#clients.get(id);
    if (!client || (secret !== null && !same(secret, client.client_secret))) return undefined;
    return { id, grants: client.grant_types, redirectUris: client.redirect_uris, scope: client.scope.split(' ') };
  }

  validateScope(user, client, asked) {
    return asked?.every((scope) => client.scope.includes(scope)) && asked;
  }

  saveAuthorizationCode(code, client, user) {
    const saved = { ...code, client, user };
    this.#codes.set(code.authorizationCode, saved);
    return saved;
  }

  getAuthorizationCode(code) {
    return this.#codes.get(code);
  }

  revokeAuthorizationCode({ authorizationCode }) {
    return this.#codes.delete(authorizationCode);
  }

  saveToken(token, client, user) {
    const saved = { ...token, client, user };
    this.#accessTokens.set(token.accessToken, saved);
    this.#refreshTokens.set(token.refreshToken, saved);
    return saved;
  }

  getAccessToken(token) {
    return this.#accessTokens.get(token);
  }

  getRefreshToken(token) {
    return this.#refreshTokens.get(token);
  }

  revokeToken({ refreshToken }) {
    return this.#refreshTokens.delete(refreshToken);
  }
}

function same(one, other) {
  const [first, second] = [Buffer.from(one), Buffer.from(other)];
  return first.length === second.length && timingSafeEqual(first, second);
}
