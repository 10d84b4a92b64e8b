"""No secret stands in a log line, whoever has written it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest
import structlog

from worker.domain.secret import Secret
from worker.log_redaction import short_address, without_secrets
from worker.logging import configure_logging, get_logger

SECRET = "s3cr3t-Value.0123"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@contextmanager
def written() -> Iterator[TextIOWrapper]:
    """Configure logging as a process does, and give what it writes; what was configured before is put back."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    with redirect_stderr(TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True)) as stream:
        configure_logging("json", "info")
        try:
            yield stream
        finally:
            logging.captureWarnings(capture=False)
            root.handlers[:], root.level = handlers, level
            structlog.configure(**before)


def _text(stream: TextIOWrapper) -> str:
    assert isinstance(stream.buffer, BytesIO)
    return stream.buffer.getvalue().decode()


def lines(stream: TextIOWrapper) -> list[dict[str, Any]]:
    """Return the lines, each of them JSON."""
    return [json.loads(line) for line in _text(stream).splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://api.example/token?grant_type=refresh_token&refresh_token={SECRET}&x=1",
        f"callback /oauth/callback?code={SECRET}&state={SECRET} failed",
        f'{{"access_token": "{SECRET}", "expires_in": 60}}',
        f"{{'client_secret': '{SECRET}'}}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: basic {SECRET}==",
        f"cannot connect to postgresql://evergrant:{SECRET}@db.example/evergrant",
        f"redis://:{SECRET}@broker.example/0 is away",
        f"a link: https://tokens.example/reconsent/{SECRET}",
        f"password={SECRET}",
        f"the token {JWT} is bad",
    ],
)
def test_text_of_others_is_shown_without_secrets(text: str) -> None:
    """What a library logs, and what an exception says, have stars where the secret was, and are readable else."""
    error = RuntimeError(text)
    with written() as stream:
        logging.getLogger("some.library").warning(text)
        logging.getLogger("some.library").warning("with arguments: %s", text)
        logging.getLogger("some.library").error("it failed", exc_info=error)
        get_logger("evergrant").error("it_failed", exc_info=error)

    assert SECRET not in _text(stream)
    assert JWT not in _text(stream)
    first, second, third, own = lines(stream)
    assert "***" in first["event"]
    assert (first["level"], first["logger"]) == ("warning", "some.library")
    assert "***" in second["event"]
    assert "RuntimeError" in third["exception"]
    assert (own["event"], "RuntimeError" in own["exception"]) == ("it_failed", True)


def test_ordinary_text_stays_as_it_is() -> None:
    """Words that look a little like it are left alone."""
    for text in (
        "exit code: 1, state: active, no token arrived",
        "https://tokens.example/connect/acme?subject=customer-42",
        "key ring has 2 keys",
        "basic authentication is what this client has",
    ):
        assert without_secrets(text) == text


def test_fields_are_starred_by_name_and_by_type() -> None:
    """A field that is called like a secret is starred whatever it holds, and a secret whatever it is called."""
    with written() as stream:
        answer = {"access_token": SECRET, "a": 1}
        get_logger("evergrant").info("event", code=SECRET, harmless=Secret(SECRET), answer=answer)
    (line,) = lines(stream)
    assert (line["code"], line["harmless"], line["answer"]) == ("***", "***", {"access_token": "***", "a": 1})


def test_access_lines_of_uvicorn_have_no_query_and_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uvicorn's own access log is switched on, it tells neither code, state nor link."""
    access = logging.getLogger("uvicorn.access")
    monkeypatch.setattr(access, "propagate", True)  # a server that runs without its access log switches this off
    with written() as stream:
        arguments = '%s - "%s %s HTTP/%s" %d'
        access.info(arguments, "127.0.0.1:5", "GET", f"/oauth/callback?code={SECRET}&state=x", "1.1", 200)
        access.info(arguments, "127.0.0.1:5", "GET", f"/reconsent/{SECRET}", "1.1", 200)
        access.info(arguments, "127.0.0.1:5", "GET", "/v1/grants?client=acme", "1.1", 200)

    assert SECRET not in _text(stream)
    assert [line["event"] for line in lines(stream)] == [
        '127.0.0.1:5 - "GET /oauth/... HTTP/1.1" 200',
        '127.0.0.1:5 - "GET /reconsent/*** HTTP/1.1" 200',
        '127.0.0.1:5 - "GET /v1/grants HTTP/1.1" 200',
    ]
    assert short_address("/") == "/"
