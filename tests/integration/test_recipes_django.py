"""The recipes for django-allauth and social-auth-app-django: what those libraries have stored is adopted, and lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from social_core.storage import UserMixin

from tests.support.command_line import ROOT
from tests.support.database import create_database
from tests.support.installation import Installation, installed
from worker.sandbox.control import SeededGrant


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library that keeps tokens, what it calls the provider, and the recipe for it."""

    name: str
    recipe: str
    provider: str
    left_out: str


_RECIPES = ROOT / "deploy" / "recipes"
ALLAUTH = Library(
    name="allauth",
    recipe=str(_RECIPES / "django_allauth.py"),
    provider="google",
    left_out="tokens without a refresh token left out",
)
SOCIAL_AUTH = Library(
    name="social auth",
    recipe=str(_RECIPES / "social_auth_app_django.py"),
    provider="google-oauth2",
    left_out="associations without a refresh token left out",
)
#: Seconds; Django's start takes one or two.
LIMIT = 120.0


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Set up one installation for this file."""
    with installed(tmp_path_factory.mktemp("installation"), database_server, migrated_template) as found:
        yield found


@pytest.fixture
def site(database_server: str) -> dict[str, str]:
    """Return the environment of a Django project with a database of its own."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SITE_DATABASE_URL": create_database(database_server, f"site_{uuid4().hex}"),
        "DJANGO_SETTINGS_MODULE": "tests.exports.django_site.settings",
    }


def run(site: dict[str, str], *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of the project's."""
    return subprocess.run(
        [sys.executable, *command],
        env=site,
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


def account(library: str, grant: SeededGrant, **more: Any) -> dict[str, Any]:
    """Return an account whose owner has signed in with what the sandbox issued."""
    answer = {
        "access_token": grant.access_token.reveal(),
        "refresh_token": grant.refresh_token.reveal(),
        "expires_in": grant.expires_in,
        "token_type": "Bearer",
        "scope": "profile organization",
    }
    name = f"user-of-{grant.account}"
    return {
        "library": library,
        "user": name,
        "email": f"{name}@example.com",
        "uid": grant.account,
        "by_app": False,
        "answer": answer,
        **more,
    }


def check_alive(installation: Installation, grant: SeededGrant, subject: str) -> None:
    """See that a grant came with all that its library had of it, and that the provider takes its refresh token."""
    [(grant_id, email, at_provider, ends)] = installation.query(
        f"SELECT id, email, account, access_expires_at - created_at FROM grants WHERE subject = '{subject}'"
    )
    assert (email, at_provider) == (f"user-of-{grant.account}@example.com", grant.account)
    assert abs(ends.total_seconds() - grant.expires_in) < LIMIT
    token = installation.run_quickly("token", installation.client, subject)
    assert token.out.strip() == grant.access_token.reveal()
    assert installation.run_quickly("grants", "refresh", str(grant_id)).code == 0


@pytest.mark.parametrize("library", [ALLAUTH, SOCIAL_AUTH], ids=lambda library: library.name)
def test_what_a_library_has_stored_is_exported_and_adopted(
    installation: Installation, site: dict[str, str], library: Library
) -> None:
    """Tokens that its own code stored from token answers come over, without those that cannot be refreshed."""
    first, second = installation.seed(), installation.seed()
    without = account(library.name, installation.seed())
    del without["answer"]["refresh_token"]
    accounts = [account(library.name, first), account(library.name, second, by_app=True), without]
    filled = run(site, "-m", "tests.exports.django_site.fill", stdin=json.dumps(accounts))
    assert filled.returncode == 0, filled.stderr

    exported = run(site, library.recipe, f"{library.provider}={installation.client}", "--subject", "account")
    imported = installation.run("grants", "import", "-", stdin=exported.stdout)

    assert (exported.returncode, exported.stderr) == (0, f"2 grants written, 1 {library.left_out}\n")
    assert (imported.code, imported.err) == (0, "")
    assert imported.out.splitlines()[1].startswith("2 adopted")
    for grant in (first, second):
        check_alive(installation, grant, grant.account)
    assert installation.sandbox.control.report().double_spends == 0


def test_two_accounts_of_one_user_are_told_apart(
    installation: Installation, site: dict[str, str], tmp_path: Path
) -> None:
    """By user they are one grant, and the import names the second line; an app's client id chooses its tokens."""
    first, second, other = installation.seed(), installation.seed(), installation.seed()
    accounts = [
        account(ALLAUTH.name, first, user="ada", email="ada@example.com"),
        account(ALLAUTH.name, second, user="ada", email="ada@example.com", by_app=True),
        account(ALLAUTH.name, other),
    ]
    filled = run(site, "-m", "tests.exports.django_site.fill", stdin=json.dumps(accounts))
    assert filled.returncode == 0, filled.stderr
    recipe, client = ALLAUTH.recipe, installation.client

    by_user = run(site, recipe, f"google={client}")
    path = tmp_path / "grants.jsonl"
    path.write_text(by_user.stdout, encoding="utf-8")
    checked = installation.run_quickly("grants", "import", str(path), "--dry-run")
    by_app = run(site, recipe, f"google-client-id={client}", "--subject", "account")

    lines = [json.loads(line) for line in by_user.stdout.splitlines()]
    assert [line["account"] for line in lines] == [first.account, second.account, other.account]
    assert lines[0]["subject"] == lines[1]["subject"] != lines[2]["subject"]
    assert (checked.code, checked.err) == (1, "line 2: client and subject are those of line 1\n")
    assert [json.loads(line)["subject"] for line in by_app.stdout.splitlines()] == [second.account]


class Association(UserMixin):
    """An association as the library itself reads it."""

    def __init__(self, extra_data: dict[str, Any]) -> None:
        self.extra_data = extra_data

    def save(self) -> None:
        """Keep nothing."""


@pytest.mark.parametrize(
    "extra_data",
    [
        {"expires_on": "{later}", "expires_in": "60", "auth_time": "{now}"},
        {"expires_in": 3600, "auth_time": "{now}"},
        {"expires": "3600", "auth_time": "{now}"},
        {"expires": "{later}"},
        {"expires_in": "3600", "auth_time": "{earlier}"},
        {},
    ],
)
def test_the_end_of_an_access_token_is_read_as_the_library_reads_it(extra_data: dict[str, Any]) -> None:
    """Instants and times since the sign-in, under all of their names, come to what Python Social Auth makes of them."""
    now = int(time.time())  # noqa: TID251 -- the library's own clock
    instants = {"{now}": now, "{later}": now + 7200, "{earlier}": now - 86_400}
    data = {name: instants.get(value, value) for name, value in extra_data.items()}
    spec = spec_from_file_location("recipe", SOCIAL_AUTH.recipe)
    assert spec is not None
    assert spec.loader is not None
    recipe = module_from_spec(spec)
    spec.loader.exec_module(recipe)

    read = recipe.access_expires_at(data)

    left = Association(data).expiration_timedelta()
    if left is None:
        assert read is None
    else:
        assert abs(datetime.fromisoformat(read).timestamp() - now - left.total_seconds()) < LIMIT


@pytest.mark.parametrize("library", [ALLAUTH, SOCIAL_AUTH], ids=lambda library: library.name)
def test_wrong_use_of_a_recipe_is_said(site: dict[str, str], library: Library) -> None:
    """Without a client for a provider nothing is written."""
    ended = run(site, library.recipe, "google")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "each argument must be" in ended.stderr
