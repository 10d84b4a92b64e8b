"""The search for secrets finds what it is for, wherever that stands, and never repeats it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.secrecy.folder import FOLDER, ROOT
from tests.secrecy.places import written
from worker.domain.secret import Secret
from worker.drill.secrecy import START, KnownSecrets
from worker.drill.told import secrets_told
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

TOKEN = "qN3v_Z0kLx-8TfWm2RyUeA7sJd5GhBp1CcQoViKXw4t"
KEY = "3q2+7wAB/xyzQRSTuvKLmn0123456789abcdefGHIJk="


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        f"https://issuer.example/callback?code={TOKEN}&state=x",
        f"redirect%3Fcode%3D{TOKEN}",
        json.dumps({"message": f"\n{TOKEN}"}),
        repr(f"\n{TOKEN}".encode()),
        f"{TOKEN[: START + 2]}...",
    ],
)
def test_a_secret_is_found_in_every_form(text: str) -> None:
    """In a header, an address, an escape, glued to other words, and cut short: the line and the kind are told."""
    known = KnownSecrets()
    known.add(TOKEN, "a token")
    [leak] = known.leaks(f"first\n{text}\nlast")
    assert (leak.line, leak.kinds) == (2, frozenset({"a token"}))
    assert TOKEN[:8] not in repr(leak)


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["{}", "id:{}", "?key={}", '"{}"']))
def test_a_key_is_found_as_it_is_and_as_it_is_sent(raw: bytes, around: str) -> None:
    """Base64 has characters that are written differently in an address; what lies between them is enough."""
    key = base64.b64encode(raw).decode()
    known = KnownSecrets()
    known.add(key, "a key")
    if known.starts or known.phrases:
        assert list(known.leaks(around.format(key)))
    if known.starts:
        assert list(known.leaks(around.format(quote(key, safe=""))))


@pytest.mark.parametrize(
    "key", ["AbCdEfGhIj/KlMnOpQrSt/UvWxYz0123/456789abcdefg=", "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdefghij="]
)
def test_a_key_is_of_the_kinds_of_its_entry(key: str) -> None:
    """One that breaks into short parts is known as a whole, and so is the entry of the ring that was made of it."""
    known = KnownSecrets()
    known.add(key, "read")
    known.add(f"2026-11:{key}", "made")

    told = [leak.kinds for leak in known.leaks(f"2026-11:{key}")]
    assert all("made" in kinds for kinds in told)
    assert frozenset({"read", "made"}) in told
    if known.phrases:
        assert {leak.kinds for leak in known.leaks(key)} == {frozenset({"read"})}


def test_a_filler_is_no_secret() -> None:
    """What repeats one character stands in many texts, and nobody's token looks like it."""
    known = KnownSecrets()
    known.add("x" * 40, "a token")

    assert not list(known.leaks("x" * 33))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """What a link leads to is searched where it lies, and one that leads nowhere stops no search."""
    (tmp_path / "a.log").write_text("said")
    (tmp_path / "b.log").symlink_to(tmp_path / "a.log")
    (tmp_path / "c.log").symlink_to(tmp_path / "gone.log")

    assert list(written(tmp_path)) == [tmp_path / "a.log"]


def test_of_an_address_the_password_alone_is_secret() -> None:
    """A database's name and host may be told; its password may not. A passphrase is found as a whole."""
    known = KnownSecrets()
    known.add(f"postgresql://evergrant:{TOKEN}@database.example/a_database_with_a_long_name", "a password")
    known.add("correct horse battery staple", "a passphrase")
    known.add(f"it says :// and http://[ and {TOKEN[::-1]}", "no address")
    assert list(known.leaks(TOKEN[::-1]))
    assert not list(known.leaks("a_database_with_a_long_name at database.example has no staple"))
    assert len(list(known.leaks(f"{TOKEN}\nis a correct horse battery staple"))) == 2


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the search at the end of this very run does not come to."""
    with TemporaryDirectory() as name:
        yield Path(name)


def test_a_drill_notices_a_secret_in_what_its_processes_wrote(folder: Path) -> None:
    """Tokens are known by the provider's hashes alone. A file that holds a password for its server tells nothing."""
    state = folder / "sandbox.sqlite3"
    with RunningSandbox(state_path=state) as sandbox:
        sandbox.control.register_client(
            client_id="c", client_secret=Secret(TOKEN), redirect_uris=("http://127.0.0.1/back",), profile=RFC6749
        )
        [grant] = sandbox.control.seed_grants("c", 1, account_prefix="a-")
    secrets = {"the client secret": Secret(TOKEN)}
    (folder / "control-token").write_text(TOKEN)
    (folder / "worker-1.log").write_text("all is well\n")
    assert secrets_told(folder, secrets, state) == ()

    (folder / "worker-1.log").write_text(f"all is well\nrefresh_token={grant.refresh_token.reveal()}&\n")
    (folder / "metrics").mkdir()
    (folder / "metrics" / "counter_1.db").write_bytes(b'\x00{"reason": "' + grant.access_token.reveal().encode())
    (folder / "evergrant.toml").write_text(f'client_secret = "{TOKEN}"')
    assert secrets_told(folder, secrets, state) == (
        "evergrant.toml, line 1: the client secret",
        "metrics/counter_1.db, line 1: an access token",
        "worker-1.log, line 2: a refresh token",
    )


_SPILLING = f"""
import subprocess, sys
from hypothesis import given
from hypothesis.strategies import just
from worker.domain.secret import Secret

def a_child_says(tmp_path, shown):
    program = (
        "import secrets; from worker.domain.secret import Secret; token = Secret(secrets.token_urlsafe());"
        f"print(token{{shown}})"
    )
    with (tmp_path / "child.log").open("w") as log:
        subprocess.run([sys.executable, "-c", program], stdout=log, check=True)

def test_in_order(tmp_path):
    a_child_says(tmp_path, "")
    print(Secret("{TOKEN}"))

def test_printed():
    print(Secret("{TOKEN}").reveal())

def test_child(tmp_path):
    a_child_says(tmp_path, ".reveal()")

@given(just("{TOKEN[::-1]}"))
def test_drawn(value):
    print(Secret(value).reveal())

def test_command_line():
    subprocess.run([sys.executable, "-c", "", Secret("{TOKEN}").reveal()], check=True)
"""


@pytest.mark.parametrize(
    ("test", "where"),
    [
        ("test_in_order", None),
        ("test_printed", "output of test_spilling.py::test_printed: a secret made by test_spilling.test_printed"),
        ("test_child", "child.log, line 1: a secret made by __main__.<module>"),
        ("test_drawn", None),
        ("test_command_line", "command lines of test_spilling.py::test_command_line"),
    ],
)
def test_a_run_of_one_test_fails_where_a_secret_was_told(tmp_path: Path, test: str, where: str | None) -> None:
    """What a test or a process of its own has said is searched at the end; the place is told, and not the secret."""
    (tmp_path / "test_spilling.py").write_text(_SPILLING)
    outer = {name: value for name, value in os.environ.items() if name not in {FOLDER, "PYTHONPATH"}}
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.secrecy.plugin", "-c", os.devnull, "--rootdir", tmp_path),
            *("--basetemp", tmp_path / "temporary", f"test_spilling.py::{test}"),
        ],
        cwd=tmp_path,
        env={**outer, "PYTHONPATH": str(ROOT), "PYTEST_DEBUG_TEMPROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
    assert (ended.returncode == 0) is (where is None)
    assert (where or "1 passed") in ended.stdout.replace("\n", "")
    assert TOKEN not in ended.stdout.replace("\n", "")
