"""A secret has a type, and whatever prints, logs, serializes or copies it shows stars or refuses."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.secret import Secret

VALUE = "hunter2-the-refresh-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A value object as the code has many: its generated repr shows each field's repr."""

    token: Secret


PRINTINGS: dict[str, Callable[[Secret], str]] = {
    "str": str,
    "repr": repr,
    "ascii": ascii,
    "f-string": lambda secret: f"{secret}",
    "f-string !r": lambda secret: f"{secret!r}",
    "f-string !a": lambda secret: f"{secret!a}",
    "f-string =": lambda secret: f"{secret=}",
    "padded": lambda secret: f"{secret:>40}",
    "cut": lambda secret: f"{secret:.30}",
    "format()": lambda secret: format(secret, "s"),
    "str.format": "{0} {0!r} {0!s:<9}".format,
    "%s": lambda secret: "%s" % secret,  # noqa: UP031 -- this is one of the ways that must not print it
    "%r": lambda secret: "%r" % secret,  # noqa: UP031 -- this is one of the ways that must not print it
    "%(name)s": lambda secret: "%(name)s" % {"name": secret},  # noqa: UP031 -- as above
    "in a list": lambda secret: str([secret]),
    "in a tuple": lambda secret: repr((secret,)),
    "in a dict": lambda secret: str({"token": secret}),
    "as a key": lambda secret: str({secret: "token"}),
    "in a set": lambda secret: str({secret}),
    "in a dataclass": lambda secret: repr(Holder(token=secret)),
    "in an exception": lambda secret: f"{ValueError(secret)!s} {KeyError(secret)!r}",
    "pprint": lambda secret: pprint.pformat({"a": [secret]}),
    "json with default=str": lambda secret: json.dumps({"token": secret}, default=str),
    "json with default=repr": lambda secret: json.dumps({"token": secret}, default=repr),
}


@pytest.mark.parametrize("way", PRINTINGS.values(), ids=PRINTINGS.keys())
def test_whatever_prints_it_shows_stars(way: Callable[[Secret], str]) -> None:
    """Each way of turning a secret into text shows stars and no part of the value."""
    shown = way(Secret(VALUE))

    assert "***" in shown
    assert "hunter2" not in shown


@settings(deadline=None)
@given(value=st.text())
def test_no_value_shows_itself(value: str) -> None:
    """Every value, also an empty or an odd one, is printed the same way."""
    secret = Secret(value)

    assert (str(secret), repr(secret), f"{secret}", f"{secret!r}") == ("***", "***", "***", "***")


def test_logging_shows_stars() -> None:
    """The standard library's logging shows stars: in arguments, in extra fields and in tracebacks."""
    secret, stream = Secret(VALUE), io.StringIO()
    logger = logging.Logger("test_secret")  # noqa: LOG001 -- one of its own, so that no other test sees its handler
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(token)s"))
    logger.addHandler(handler)

    logger.warning("positional %s, by repr %r, named in a mapping", secret, secret, extra={"token": secret})
    error = ValueError(secret, {"refresh_token": secret})
    try:
        raise error
    except ValueError:
        logger.exception("it failed", extra={"token": secret})

    logged = stream.getvalue()
    assert "ValueError" in logged
    assert logged.count("***") == 6
    assert "hunter2" not in logged


def test_structured_logging_shows_stars() -> None:
    """The renderer of our own log lines writes stars for a secret, at any depth."""
    render = structlog.processors.JSONRenderer(default=str)

    line = render(None, "info", {"event": "settled", "token": Secret(VALUE), "deep": {"list": [Secret(VALUE)]}})

    assert json.loads(line) == {"event": "settled", "token": "***", "deep": {"list": ["***"]}}


def test_a_traceback_with_locals_shows_stars() -> None:
    """A traceback that shows local variables, as error trackers do, shows stars for a secret."""

    def fail(token: Secret) -> None:
        held = {"token": token}
        raise RuntimeError(held)

    with pytest.raises(RuntimeError) as caught:
        fail(Secret(VALUE))

    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "held = {'token': ***}" in shown
    assert "hunter2" not in shown


def _json(secret: Secret) -> object:
    return json.dumps({"token": secret})


def _as_dict(secret: Secret) -> object:
    return asdict(Holder(token=secret))


def _length(secret: Secret) -> object:
    return len(secret)  # type: ignore[arg-type]


def _joined(secret: Secret) -> object:
    parts = ["grant_type=refresh_token", secret]
    return "&".join(parts)  # type: ignore[arg-type]


def _added(secret: Secret) -> object:
    return "Bearer " + secret  # type: ignore[operator]


def _iterated(secret: Secret) -> object:
    return list(secret)  # type: ignore[call-overload]


REFUSALS: dict[str, Callable[[Secret], object]] = {
    **{f"pickle {protocol}": lambda secret, p=protocol: pickle.dumps(secret, p) for protocol in range(6)},  # type: ignore[misc]
    "pickled in a dataclass": lambda secret: pickle.dumps([Holder(token=secret)]),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": _as_dict,
    "json": _json,
    "vars": vars,
    "len": _length,
    "join": _joined,
    "added to a string": _added,
    "iterated": _iterated,
}


@pytest.mark.parametrize("use", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_would_take_the_value_along_is_refused(use: Callable[[Secret], object]) -> None:
    """Serializing, copying and treating it as a string raise a TypeError that does not show the value."""
    with pytest.raises(TypeError) as caught:
        use(Secret(VALUE))

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_only_reveal_gives_the_value() -> None:
    """The one named way gives the value unchanged."""
    assert Secret(VALUE).reveal() == VALUE


def test_secrets_are_compared_with_secrets_only() -> None:
    """Equal values are equal and hash alike, a plain string is never equal, and an empty secret is false."""
    assert Secret(VALUE) == Secret(VALUE)
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE), Secret("other")}) == 2
    assert Secret(VALUE)
    assert not Secret("")
