"""From the fields of a line, as exports write them, to an offered grant: numbers for instants, scopes in one text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from worker.oauth.answer_path import text_of
from worker.oauth.complaints import nearest
from worker.oauth.expiry import instant
from worker.usecases.offer import Complaint, Offer, complaints_in

#: What a captured value's field is called where fields cannot be nested: `captured.shop`.
CAPTURED: Final = "captured."
#: Another name that exports have for a field.
ALIASES: Final = {"expires_at": "access_expires_at"}
#: All that a line may hold.
KNOWN: Final = (*Offer.model_fields, *ALIASES)
_KNOWN: Final = frozenset(KNOWN)
_INSTANTS: Final = ("access_expires_at", "refresh_expires_at", "consented_at")
_NUMBER: Final = re.compile(r"[0-9]{9,13}(?:\.[0-9]{1,9})?")
#: What is no longer than this and looks like one is the name of a field, and no token in a wrong place.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]{0,39}")


def read_offer(fields: Mapping[str, object]) -> Offer | tuple[Complaint, ...]:
    """Return the grant that a line offers, or all that is wrong with it.

    Args:
        fields: by name; a value is text, or what JSON has.

    """
    if not _KNOWN.issuperset(fields):
        return unknown_fields(fields)
    given = dict(fields)
    for other, name in ALIASES.items():
        if other in given:
            if name in given:
                return (Complaint(field=other, text=f"is {name} by another name: give one of them"),)
            given[name] = given.pop(other)
    for name in _INSTANTS:
        if name in given:
            given[name] = _instant(given[name])
    if isinstance(given.get("scopes"), str):
        given["scopes"] = str(given["scopes"]).replace(",", " ").split() or None
    if "captured" in given:
        given["captured"] = _captured(given["captured"])
    try:
        return Offer.model_validate(given)
    except ValidationError as error:
        return complaints_in(error)


def unknown_fields(names: Mapping[str, object]) -> tuple[Complaint, ...]:
    """Return what to say of names that no field has; nothing where all are known."""
    unknown = [name for name in names if name not in _KNOWN]
    if not unknown:
        return ()
    if len(unknown) == len(names):
        return (Complaint(field="none", text=f"of the fields is known (there are {', '.join(KNOWN)})"),)
    return tuple(_unknown(name) for name in unknown)


def _unknown(name: str) -> Complaint:
    if not _NAME.fullmatch(name):  # it may be a value that stands where a name belongs
        return Complaint(field="a field", text="has a name that is none")
    return Complaint(field=repr(name), text=f"is no field{nearest(name, KNOWN)}")


def _instant(value: object) -> object:
    """Return the instant that seconds or milliseconds since 1970 tell; anything else as it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        return instant(value) or value
    return value


def _captured(value: object) -> object:
    """Return captured values as text: a company's number is one in JSON."""
    if not isinstance(value, Mapping):
        return value
    return {name: text_of(found) if isinstance(found, int | str) else found for name, found in value.items()}
