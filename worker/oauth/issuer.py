"""Who answered: `iss` of a redirect, held against the authorization server that was asked (RFC 9207)."""

from __future__ import annotations

from collections.abc import Iterable

from worker.oauth.provider import Provider


def is_issuer(provider: Provider, issuer: str) -> bool:
    """Tell whether a provider with a known issuer may call itself so."""
    pattern = provider.issuer_pattern
    return issuer == provider.issuer or (pattern is not None and pattern.fullmatch(issuer) is not None)


def is_mixed_up(provider: Provider, issuer: str | None, others: Iterable[Provider]) -> bool:
    """Tell whether an answer came from another server than the one that was asked (RFC 9207 section 2.4).

    Where nobody has written down the provider's issuer, an answer is still refused that names another provider of ours:
    that is what the attack looks like (RFC 9700 section 4.4).

    Args:
        provider: that was asked.
        issuer: `iss` of the redirect; None where there is none, which only those may leave out who do not promise it.
        others: all providers that clients are configured for.

    """
    if issuer is None:
        return provider.authorization_response_iss_parameter_supported
    if provider.issuer is not None:
        return not is_issuer(provider, issuer)
    return any(
        other.issuer is not None and other.token_endpoint != provider.token_endpoint and is_issuer(other, issuer)
        for other in others
    )
