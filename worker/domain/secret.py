"""A secret has a type, and the type prints stars."""

from __future__ import annotations

from typing import Final, Never

_STARS: Final = "***"


class Secret:
    """A token, client secret, code or key that must not reach a log, message, trace, URL or exception.

    Printing, formatting and `repr` give `***`; pickling raises, so that no task message can carry one.
    Only `reveal` gives the value, and a search for that word finds every place that does.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the one request, ciphertext or answer that needs it."""
        return self._value

    def __repr__(self) -> str:
        return _STARS

    def __str__(self) -> str:
        return _STARS

    def __format__(self, format_spec: str) -> str:
        return format(_STARS, format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> Never:
        message = "a Secret is not pickled; send the grant's id and read it where it is needed"
        raise TypeError(message)
