"""Whether an access token still holds: its expiry, its family and its own revocation."""

from __future__ import annotations

from worker.sandbox.access_tokens import AccessClaims
from worker.sandbox.authorization_server import AuthorizationServer


def is_valid(server: AuthorizationServer, claims: AccessClaims) -> bool:
    """Return whether an access token minted here is neither expired nor revoked, by itself or with its family."""
    if server.world.now() >= claims.expires_at or server.families.is_revoked(claims.family_id):
        return False
    known = server.store.connection.execute(
        "SELECT 1 FROM revoked_access_tokens WHERE jti = ?", (claims.token_id,)
    ).fetchone()
    return known is None


def revoke_access_token(server: AuthorizationServer, claims: AccessClaims) -> None:
    """End one access token before its time, within the caller's transaction."""
    server.store.connection.execute(
        "INSERT OR IGNORE INTO revoked_access_tokens VALUES (?, ?)", (claims.token_id, claims.expires_at)
    )
