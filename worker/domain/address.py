"""What is one e-mail address: the form that mail servers take, and nothing that could smuggle in a second recipient."""

from __future__ import annotations

import re
from typing import Final

#: RFC 5321 section 4.5.3.1.3, less the angle brackets.
LONGEST: Final = 254
#: RFC 5322 section 3.2.3 (dot-atom), with other letters (RFC 6531). Quoted local parts are legal, and nobody has one.
_ATOM: Final = r"""[^\s"(),:;<>@\[\]\\.]+"""
_FORM: Final = re.compile(rf"{_ATOM}(\.{_ATOM})*@{_ATOM}(\.{_ATOM})*")


def is_address(text: str) -> bool:
    """Tell whether a text is one e-mail address and nothing else."""
    is_one = len(text) <= LONGEST and text.isprintable() and _FORM.fullmatch(text) is not None
    return is_one and _domain(text) is not None


def for_the_wire(address: str) -> str:
    """Return an address with its domain in the letters that mail servers know (RFC 5890).

    Raises:
        ValueError: when it is none.

    """
    domain = _domain(address) if is_address(address) else None
    if domain is None:
        message = "is not an e-mail address"
        raise ValueError(message)
    return f"{address.rpartition('@')[0]}@{domain}"


def _domain(text: str) -> str | None:
    try:
        return text.rpartition("@")[2].encode("idna").decode("ascii")
    except UnicodeError:  # a label that is empty, too long, or of letters that no name has
        return None
