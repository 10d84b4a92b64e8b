"""Reading the tokens in an answer: tolerant in what it accepts, so that no token that arrived is lost.

Only a missing access token makes an answer unusable. Every other oddity costs that one field and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from worker.domain.outcome import Tokens
from worker.domain.secret import Secret
from worker.oauth.answer_path import at, first_at, is_storable, is_value, objects_in
from worker.oauth.captured import account_at, captured_from_answer, source_in_answer
from worker.oauth.expiry import jwt_lifetime, lifetime_in, lifetime_until
from worker.oauth.provider_answers import Answer, Success
from worker.oauth.provider_kinds import Style
from worker.oauth.reading import RFC_6749, Reading
from worker.oauth.token_answer import secret_values

#: A scope that long is not one.
_LONGEST_SCOPE: Final = 512
_MOST_SCOPES: Final = 200
_BETWEEN_SCOPES: Final = re.compile(r"[ ,]+")


def read_tokens(
    fields: Mapping[str, Any],
    secrets: tuple[Secret, ...],
    reading: Reading = RFC_6749,
    now: datetime | None = None,
    *,
    anywhere: bool = True,
) -> Tokens | None:
    """Return the tokens in a successful answer (RFC 6749 section 5.1), or None where it has no access token.

    Args:
        fields: the answer's object.
        secrets: what the request held; a scope that repeats one is left out.
        reading: where this provider keeps what.
        now: the provider's own clock, against which instants are measured.
        anywhere: look for them deeper in the answer too, where they are not in their place.

    """
    answer = reading.answer
    table = _token_table(fields, answer, anywhere=anywhere)
    if table is None:
        return None
    access_token = _token(at(table, answer.access_token) or at(table, "access_token"))
    if access_token is None:
        return None
    refresh_token = _token(at(table, answer.refresh_token))
    access_lifetime = (
        lifetime_in(table, answer.expires_in, answer.expires_in_unit)
        or lifetime_until(table, answer.expires_at, now)
        or (jwt_lifetime(access_token.reveal(), now) if answer.expires_from_jwt else None)
    )
    refresh_lifetime = _refresh_lifetime(table, reading, refresh_token, now)
    if reading.style is Style.TOKEN_EXCHANGE:
        # The next exchange presents this very token, and only while it is alive.
        refresh_token, refresh_lifetime = access_token, access_lifetime
    hidden = secret_values(fields, secrets, (access_token, refresh_token))
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token,
        access_lifetime=access_lifetime,
        refresh_lifetime=refresh_lifetime,
        scopes=_scopes(at(table, answer.scope) or at(fields, answer.scope), hidden),
        account=account_at(fields, answer.account, hidden) if answer.account is not None else None,
        account_source=source_in_answer(answer.account) if answer.account is not None else None,
        id_token=_token(at(table, "id_token") or at(fields, "id_token")),
        captured=captured_from_answer(fields, reading, hidden),
    )


def is_success(fields: Mapping[str, Any], success: Success | None) -> bool:
    """Tell whether an answer is a success by the provider's own sign for it; without one it is."""
    if success is None:
        return True
    found = at(fields, success.field)
    return found is None if success.absent else is_value(found, success.equals)


def _token_table(fields: Mapping[str, Any], answer: Answer, *, anywhere: bool) -> Mapping[str, Any] | None:
    """Return the object that holds the tokens: where it should be, else at the top, else the only one that has any."""
    wrapped = at(fields, answer.path) if answer.path is not None else None
    for table in (wrapped, fields):
        if isinstance(table, dict) and _token(at(table, answer.access_token)) is not None:
            return table
    if not anywhere:
        return None
    found = [table for table in objects_in(fields) if _token(table.get("access_token")) is not None]
    return found[0] if len(found) == 1 else None


def _token(value: object) -> Secret | None:
    # Of any length: the cap on the body bounds it, and a token that is refused here is lost.
    return Secret(value) if isinstance(value, str) and value else None


def _refresh_lifetime(
    table: Mapping[str, Any], reading: Reading, refresh_token: Secret | None, now: datetime | None
) -> timedelta | None:
    answer = reading.answer
    answered = lifetime_in(table, answer.refresh_expires_in, answer.expires_in_unit) or lifetime_until(
        table, answer.refresh_expires_at, now
    )
    if answered is not None or refresh_token is None or reading.new_refresh_lifetime is None:
        return answered
    # Said, but not to be believed or not limited: no default of ours is put in its place.
    is_said = first_at(table, (*answer.refresh_expires_in, *answer.refresh_expires_at)) is not None
    return None if is_said else reading.new_refresh_lifetime


def _scopes(value: object, secrets: Collection[str]) -> tuple[str, ...] | None:
    if isinstance(value, str):
        found = _BETWEEN_SCOPES.split(value.strip())
    elif isinstance(value, list):
        found = [scope for scope in value if isinstance(scope, str)]
    else:
        return None
    kept = tuple(scope for scope in found if _is_scope(scope) and not any(secret in scope for secret in secrets))
    return kept[:_MOST_SCOPES] or None


def _is_scope(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_SCOPE and is_storable(text)  # RFC 6749 section 3.3 allows neither odd character
