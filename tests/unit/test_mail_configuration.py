"""`[mails]` and what clients say of mails: defaults, refusals, and templates that are tried before anything is sent."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from worker.configuration import Configuration, load_configuration
from worker.domain.errors import ConfigurationError
from worker.domain.reconsent import MailMode, MailPolicy
from worker.domain.secret import Secret
from worker.mail.server import read_sender
from worker.mail.writing import HTML, SUBJECT, TEXT, Mail, NamedGrant, Writer
from worker.settings import Settings

CLIENT = '[clients.acme]\nprovider = "askara"\nclient_id = "abc"\nclient_secret = "env:S"\n'
WHEN = datetime(2026, 10, 7, tzinfo=UTC)


def _load(folder: Path, text: str) -> Configuration:
    path = folder / "evergrant.toml"
    path.write_text(text, encoding="utf-8")
    return load_configuration(Settings(config=path), {"S": "hunter2"})


def _refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _load(folder, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _mail(*grants: NamedGrant) -> Mail:
    return Mail(
        message_id=UUID(int=1),
        recipients=("ada@example.com",),
        grants=grants,
        link=Secret("https://tokens.example/reconsent/abc"),
        link_expires_at=WHEN,
    )


def _grant(account: str, *, client: str = "acme", ends_at: datetime | None = None) -> NamedGrant:
    return NamedGrant(client_name=client, client=client.title(), account=account, detail=None, ends_at=ends_at)


def test_what_is_left_out_has_the_documented_defaults(tmp_path: Path) -> None:
    """Mails are automatic: after a minute, again after three and seven days, one an hour at most, five in all."""
    loaded = _load(tmp_path, CLIENT)

    assert loaded.mails.policy == MailPolicy()
    client = loaded.registry.client("acme")
    assert (client.reconsent_mails, client.fallback_recipients, client.display_name) == (MailMode.AUTO, (), "Askara")


def test_what_is_set_is_read(tmp_path: Path) -> None:
    """Every key arrives; one fallback recipient may stand without brackets."""
    mails = (
        '[mails]\ndelay = "0s"\ncool_down = "2h"\nreminders = ["1d"]\ncap = 2\ndigest_at = "06:30"\nahead = "3d"\n'
        'link_lifetime = "2d"\n'
    )
    client = 'reconsent_mails = "digest"\nfallback_recipients = "ops@example.com"\ndisplay_name = "Acme CRM"\n'
    loaded = _load(tmp_path, CLIENT + client + mails)

    assert loaded.mails.policy == MailPolicy(
        delay=timedelta(0),
        cool_down=timedelta(hours=2),
        reminders=(timedelta(days=1),),
        cap=2,
        digest_at=time(6, 30),
        ahead=timedelta(days=3),
        link_lifetime=timedelta(days=2),
    )
    found = loaded.registry.client("acme")
    assert (found.reconsent_mails, found.fallback_recipients) == (MailMode.DIGEST, ("ops@example.com",))
    assert found.display_name == "Acme CRM"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mails]\nreminder = []\n", "[mails] unknown key 'reminder' (did you mean 'reminders'?)"),
        ('[mails]\nreminders = ["7d", "3d"]\n', "[mails] reminders: each must be later than the one before"),
        ('[mails]\nreminders = ["10s"]\n', "is shorter than a minute"),
        ("[mails]\ndelay = 60\n", "[mails] delay: write a duration such as 30s"),
        ('[mails]\ncool_down = "400d"\n', "[mails] cool_down: is longer than a year"),
        ("[mails]\ncap = 0\n", "[mails] cap: "),
        ('[mails]\ndigest_at = "08:00+02:00"\n', "[mails] digest_at: is a time of day in UTC"),
        ('[mails]\ntemplates = "/there/is/none"\n', "[mails] templates: /there/is/none is not a folder"),
        (CLIENT + 'reconsent_mails = "never"\n', "[clients.acme] reconsent_mails: "),
        (CLIENT + 'fallback_recipients = ["ops"]\n', "fallback_recipients, entry 1: is not an e-mail address"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """It names table and key, and what would be right."""
    assert said in _refused(tmp_path, text)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ nonsense }}", "'nonsense' is undefined"),
        ("{% if %}", "line 1"),
        ("{{ grants[0].client / 2 }}", "unsupported operand"),
    ],
)
def test_a_template_that_cannot_be_written_with_stops_the_start(tmp_path: Path, template: str, said: str) -> None:
    """It is tried before any mail depends on it, and named with its place."""
    own = tmp_path / "own"
    own.mkdir()
    (own / HTML).write_text(template, encoding="utf-8")

    message = _refused(tmp_path, f'[mails]\ntemplates = "{own}"\n')
    assert "[mails] templates: " in message
    assert said in message
    assert HTML in message


def test_templates_of_ones_own_take_the_place_of_ours(tmp_path: Path) -> None:
    """Those in the folder hold for all, those in a client's folder for it alone; what is missing is ours."""
    (tmp_path / "acme").mkdir()
    (tmp_path / SUBJECT).write_text("Bitte erneut: {{ grants[0].client }}", encoding="utf-8")
    (tmp_path / "acme" / TEXT).write_text("{{ link }} für {{ grants[0].account }}", encoding="utf-8")
    writer = Writer(read_sender("tokens@example.com"), "https://tokens.example", tmp_path)

    ours, theirs = writer.write(_mail(_grant("a", client="other")), WHEN), writer.write(_mail(_grant("a")), WHEN)
    both = writer.write(_mail(_grant("a"), _grant("b", client="other")), WHEN)

    assert [message["Subject"] for message in (ours, theirs)] == ["Bitte erneut: Other", "Bitte erneut: Acme"]
    texts = []
    for message in (ours, theirs, both):
        part = message.get_body(("plain",))
        assert part is not None
        texts.append(part.get_content())
    assert texts[1] == "https://tokens.example/reconsent/abc für a\n"
    assert all("Please authorize again." in text for text in (texts[0], texts[2]))


def test_hostile_names_are_text() -> None:
    """What a calling team or a provider has put into a name is neither markup nor a header."""
    hostile = "<script>alert(1)</script>\r\nBcc: eve@example.com"
    message = Writer(read_sender("tokens@example.com"), "https://tokens.example", None).write(
        _mail(_grant(hostile, ends_at=WHEN)), WHEN
    )

    html = message.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()
    assert message["Bcc"] is None
    assert "\n" not in message["Subject"]
