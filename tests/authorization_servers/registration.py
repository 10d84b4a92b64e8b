"""A client as an authorization server knows it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRegistration:
    """A client as the authorization server knows it (RFC 7591 section 2)."""

    client_id: str
    client_secret: Secret
    redirect_uris: tuple[str, ...]
    token_endpoint_auth_method: str = "client_secret_basic"
    scope: str = "openid offline_access"  #: the scopes it may ask for, separated by spaces

    def to_metadata(self) -> dict[str, object]:
        """Write the metadata as the server reads it, secret included."""
        return {
            "client_id": self.client_id,
            "client_secret": self.client_secret.reveal(),
            "redirect_uris": list(self.redirect_uris),
            "token_endpoint_auth_method": self.token_endpoint_auth_method,
            "scope": self.scope,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        }
