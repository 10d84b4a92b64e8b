"""A provider's own rules for its errors, held against an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from worker.oauth.answer_path import at, is_value
from worker.oauth.provider_errors import ErrorRule
from worker.oauth.token_answer import HttpAnswer

_TOO_MANY_REQUESTS: Final = 429  # RFC 6585 section 4
#: What of a description is searched: a sentence, not a page.
_LONGEST_DESCRIPTION: Final = 2000


def matching_rule(
    rules: Iterable[ErrorRule], answer: HttpAnswer, fields: Mapping[str, Any] | None, *, beside_tokens: bool = False
) -> ErrorRule | None:
    """Return the first rule of which everything holds, or None.

    Args:
        rules: in order.
        answer: that may be an error.
        fields: its object; where it has none, its text is searched as the description.
        beside_tokens: whether the answer holds tokens. Then only a rule counts that names an error by a value or a
            description: a status, or a member that is merely there, says nothing against tokens that arrived.

    """
    asked = (rule for rule in rules if rule.names_an_error or not beside_tokens)
    return next((rule for rule in asked if _holds(rule, answer, fields)), None)


def matched_value(rule: ErrorRule, fields: Mapping[str, Any] | None) -> str | None:
    """Return the value by which a rule matched, as text."""
    found = (value for value in _values(rule, fields) if is_value(value, rule.value))
    return next((str(value) for value in found), None)


def _holds(rule: ErrorRule, answer: HttpAnswer, fields: Mapping[str, Any] | None) -> bool:
    # Whatever stands in it, an answer that turns away for the number of requests says nothing of the grant.
    if answer.status not in (rule.status or ({answer.status} - {_TOO_MANY_REQUESTS})):
        return False
    if rule.value and matched_value(rule, fields) is None:
        return False
    if rule.field is not None and not rule.value and at(fields, rule.field) is None:
        return False
    return rule.description is None or any(
        rule.description.search(text[:_LONGEST_DESCRIPTION]) for text in _descriptions(rule, answer, fields)
    )


def _values(rule: ErrorRule, fields: Mapping[str, Any] | None) -> Iterator[object]:
    if rule.field is not None:
        yield at(fields, rule.field)
        return
    error = at(fields, "error")
    yield from (at(error, "code"), at(error, "type")) if isinstance(error, Mapping) else (error,)


def _descriptions(rule: ErrorRule, answer: HttpAnswer, fields: Mapping[str, Any] | None) -> Iterator[str]:
    if fields is None:
        yield answer.body[: 4 * _LONGEST_DESCRIPTION].decode("utf-8", "replace")
        return
    for path in rule.description_field:
        found = at(fields, path)
        if isinstance(found, str):
            yield found
