"""What Authlib leaves to an application of its two grants: where codes and tokens are kept, as its guide has it."""

from __future__ import annotations

import time

from authlib.integrations.flask_oauth2.requests import FlaskOAuth2Request
from authlib.oauth2.rfc6749 import grants

from tests.authorization_servers.authlib_server.store import Client, Code, Owner, Token


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):
    """Keeps codes until they are exchanged."""

    def save_authorization_code(self, code: str, request: FlaskOAuth2Request) -> None:
        """Keep a code with what was asked for."""
        asked = request.payload
        self.server.store.add(
            Code(
                code=code,
                client_id=request.client.client_id,
                redirect_uri=asked.redirect_uri,
                scope=asked.scope,
                user_id=request.user.get_user_id(),
                code_challenge=asked.data.get("code_challenge"),
                code_challenge_method=asked.data.get("code_challenge_method"),
            )
        )
        self.server.store.commit()

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """Find a code that is still good."""
        found: Code | None = (
            self.server.store.query(Code).filter_by(code=code, client_id=client.get_client_id()).first()
        )
        return found if found is not None and not found.is_expired() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Forget a code, which is used once."""
        self.server.store.delete(authorization_code)
        self.server.store.commit()

    def authenticate_user(self, authorization_code: Code) -> Owner:
        """Name the owner who consented."""
        return Owner(authorization_code.user_id)


class RefreshTokenGrant(grants.RefreshTokenGrant):
    """Ends the presented refresh token where a new one is issued."""

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        """Find a refresh token that is still good."""
        found: Token | None = self.server.store.query(Token).filter_by(refresh_token=refresh_token).first()
        return found if found is not None and not found.refresh_token_revoked_at else None

    def authenticate_user(self, refresh_token: Token) -> Owner:
        """Name the owner who consented."""
        return Owner(refresh_token.user_id)

    def revoke_old_credential(self, refresh_token: Token) -> None:
        """End what the new tokens replace."""
        now = int(time.time())  # noqa: TID251 -- Authlib's tables count in these seconds
        refresh_token.access_token_revoked_at = now
        if self.INCLUDE_NEW_REFRESH_TOKEN:
            refresh_token.refresh_token_revoked_at = now
        self.server.store.commit()
