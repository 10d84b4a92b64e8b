"""The answer of the token endpoint, and its members for each profile."""

from __future__ import annotations

from dataclasses import dataclass

from worker.domain.secret import Secret
from worker.sandbox.profiles import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """Tokens as RFC 6749 section 5.1 answers them. `expires_in` is in seconds; no refresh token means keep yours."""

    access_token: Secret
    refresh_token: Secret | None
    expires_in: int
    scope: str


def answer_members(profile: Profile, answer: TokenAnswer) -> dict[str, object]:
    """Return the members of the JSON answer, in the order in which Askara's guide shows them."""
    members: dict[str, object] = {
        "token_type": "Bearer",
        "expires_in": answer.expires_in,
        "access_token": answer.access_token.reveal(),
    }
    if answer.refresh_token is not None:
        members["refresh_token"] = answer.refresh_token.reveal()
    if profile.answers_scope:
        members["scope"] = answer.scope
    return members
