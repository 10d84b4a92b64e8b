// What the authorization server keeps and what it has seen.
import { createHash } from 'node:crypto';

// The store behind oidc-provider's own in-memory adapter. The one it comes with forgets silently from about a thousand
// entries on, and a forgotten refresh token looks exactly like a revoked one.
export class Store {
  #entries = new Map();

  get(key) {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.endsAt <= Date.now()) {
      this.#entries.delete(key);
      return undefined;
    }
    return entry.value;
  }

  set(key, value, { maxAge = Infinity } = {}) {
    this.#entries.set(key, { value, endsAt: Date.now() + maxAge });
  }

  delete(key) {
    return this.#entries.delete(key);
  }

  // A grant is alive while one of its refresh tokens can still be used: not used before, not ended, not revoked.
  grantsAlive() {
    const alive = new Set();
    for (const key of this.#entries.keys()) {
      if (!key.startsWith('RefreshToken:')) continue;
      const token = this.get(key);
      if (token && !token.consumed && this.get(`Grant:${token.grantId}`)) alive.add(token.grantId);
    }
    return alive.size;
  }
}

// How often each refresh token was presented, whatever the answer was. The tokens themselves are not kept.
export class PresentedTokens {
  #times = new Map();

  // A parameter that was sent twice arrives as a list, one that was not sent as undefined.
  record(refreshToken) {
    for (const token of [refreshToken ?? []].flat()) {
      const hash = createHash('sha256').update(token).digest('hex');
      this.#times.set(hash, (this.#times.get(hash) ?? 0) + 1);
    }
  }

  report() {
    const times = [...this.#times.values()];
    return {
      presented: times.reduce((sum, count) => sum + count, 0),
      presented_more_than_once: times.filter((count) => count > 1).length,
      tokens: Object.fromEntries(this.#times),
    };
  }
}
