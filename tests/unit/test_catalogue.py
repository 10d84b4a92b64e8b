"""The shipped catalogue: who is in it, that each entry can be used, and that it says its sources and its guesses."""

from __future__ import annotations

import tomllib
from datetime import date
from typing import Any, Final

import pytest

from worker.oauth.placeholders import Source, names_in
from worker.oauth.provider import Provider
from worker.oauth.registry import build_registry
from worker.packaged import catalogue_path

#: Every provider whose facts have been gathered; none may get lost.
KNOWN: Final = [
    *["askara", "acrobat_sign", "adobe_ims", "airtable", "amazon_lwa", "asana", "atlassian", "auth0", "autodesk"],
    *["basecamp", "bigcommerce", "bitbucket", "box", "calendly", "canva", "clickup", "clover", "cognito", "discord"],
    *["docusign", "dropbox", "dropbox_sign", "ebay", "exact_online", "facebook", "figma", "fitbit", "freshbooks"],
    *["front", "garmin", "github", "gitlab", "gong", "google", "gusto", "hubspot", "instagram", "intercom", "jobber"],
    *["keycloak", "klaviyo", "linear", "linkedin", "mailchimp", "microsoft", "miro", "monday", "myob", "netsuite"],
    *["notion", "okta", "onelogin", "oura", "outreach", "paypal", "pingone", "pinterest", "pipedrive", "procore"],
    *["quickbooks", "reddit", "ringcentral", "sage_accounting", "salesforce", "salesloft", "servicenow", "shopify"],
    *["slack", "smartsheet", "snowflake", "spotify", "square", "strava", "stripe_apps", "stripe_connect", "tiktok"],
    *["tiktok_business", "twitch", "typeform", "whoop", "withings", "workday", "x", "xero", "zendesk", "zoho", "zoom"],
]
CATALOGUE: Final[dict[str, Any]] = tomllib.loads(catalogue_path().read_text(encoding="utf-8"))
EACH = pytest.mark.parametrize("name", list(CATALOGUE))


def provider(name: str) -> Provider:
    """Validate one entry, alone."""
    built = build_registry(
        catalogue={name: CATALOGUE[name]}, providers={}, clients={}, environment={}, public_url="https://tokens.example"
    )
    return built.providers[name]


def endpoints(facts: Provider) -> dict[str, str]:
    """Return every address of an entry, by the key under which it is written."""
    found = {
        "authorization_endpoint": facts.authorization_endpoint,
        "token_endpoint": facts.token_endpoint,
        "revocation_endpoint": facts.revocation_endpoint,
        "introspection_endpoint": facts.introspection_endpoint,
        "issuer": facts.issuer,
        "assertion_audience": facts.assertion_audience,
        "code.endpoint": facts.code.endpoint,
        "upgrade.endpoint": facts.upgrade.endpoint if facts.upgrade is not None else None,
        "refresh.endpoint": facts.refresh.endpoint,
    }
    return {key: url for key, url in found.items() if url is not None}


def is_set(table: object, key: str) -> bool:
    """Tell whether an entry writes something at a dotted key."""
    for part in key.split("."):
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True


def test_every_known_provider_is_there_askara_first_and_the_others_by_name() -> None:
    """A person who reads the file finds each provider in its place."""
    assert list(CATALOGUE) == ["askara", *sorted(set(KNOWN) - {"askara"})]
    assert len(KNOWN) == len(set(KNOWN)) == 87


@EACH
def test_an_entry_is_valid_and_says_where_and_when_its_facts_were_found(name: str) -> None:
    """Each entry loads by itself, has a name for a person, sources, and the day on which it was held against them."""
    facts = provider(name)

    assert facts.display_name
    assert facts.sources
    assert all(source.strip() == source != "" for source in facts.sources)
    assert type(facts.checked) is date


@EACH
def test_what_is_called_inferred_is_written(name: str) -> None:
    """Only what is said can be a guess; each guess is named once."""
    inferred = provider(name).inferred

    assert [key for key in inferred if not is_set(CATALOGUE[name], key)] == []
    assert len(set(inferred)) == len(inferred)


@EACH
def test_all_addresses_are_https_and_what_is_unknown_has_none(name: str) -> None:
    """No entry sends a secret in the clear, and an endpoint is either written or called unknown."""
    facts = provider(name)
    written = endpoints(facts)

    assert {key: url for key, url in written.items() if not url.startswith("https://")} == {}
    missing = {"authorization_endpoint", "token_endpoint"} - set(written)
    assert missing == set(facts.unknown)


@EACH
def test_a_person_is_told_what_to_fill_in(name: str) -> None:
    """Each placeholder that an operator fills has a pattern and says what belongs there; each one is used."""
    facts = provider(name)
    table = {key: value for key, value in CATALOGUE[name].items() if key not in {"notes", "placeholders"}}
    used = {found for text in _texts(table) for found in names_in([text])}

    for key, placeholder in facts.placeholders.items():
        assert key in used, f"{key} is declared and used nowhere"
        assert placeholder.pattern is not None
        assert placeholder.source is not Source.OPERATOR or placeholder.description


@EACH
@pytest.mark.parametrize("host", ["evil.example", "accounts.zoho.ab.co", "accounts.zoho.com.evil.example", "a@b.io"])
def test_no_stranger_chooses_where_secrets_are_sent(name: str, host: str) -> None:
    """What a redirect or an answer fills into an address is one of the provider's own hosts."""
    facts = provider(name)
    in_addresses = names_in(endpoints(facts).values())

    for key, placeholder in facts.placeholders.items():
        if key in in_addresses and placeholder.source is not Source.OPERATOR:
            assert placeholder.accepted(host) is None
            assert placeholder.accepted(f"https://{host}") is None


def test_no_two_entries_share_a_name_for_a_person() -> None:
    """A list of providers tells each from every other."""
    shown = [table["display_name"].casefold() for table in CATALOGUE.values()]

    assert sorted(shown) == sorted(set(shown))


def _texts(table: object) -> list[str]:
    """Return every text in an entry, at any depth."""
    if isinstance(table, str):
        return [table]
    members = table.values() if isinstance(table, dict) else table if isinstance(table, list) else ()
    return [text for member in members for text in _texts(member)]
