"""Settings from the environment: `EVERGRANT_…`, each also as `EVERGRANT_…_FILE` with the path of a file to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.mail.server import read_mail_server, read_sender

PREFIX: Final = "EVERGRANT_"
_FILE: Final = "_FILE"
DEFAULT_CONFIG: Final = Path("config/evergrant.toml")
DEFAULT_HOME: Final = Path(".evergrant")
DEFAULT_PUBLIC_URL: Final = "http://127.0.0.1:8080"


def _secret(value: object) -> object:
    return Secret(value) if isinstance(value, str) else value


def _mail_server(url: Secret) -> Secret:
    read_mail_server(url)
    return url


def _sender(text: str) -> str:
    read_sender(text)
    return text


SecretText = Annotated[Secret, BeforeValidator(_secret)]


class Settings(BaseModel):
    """What the environment says; `config/example.env` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)

    database_url: SecretText | None = None
    broker_url: SecretText | None = None
    keys: SecretText | None = None
    config: Path | None = None  #: None: `config/evergrant.toml` where that exists
    home_dir: Path = DEFAULT_HOME
    public_url: str = DEFAULT_PUBLIC_URL
    smtp_url: Annotated[SecretText, AfterValidator(_mail_server)] | None = None  #: none: no mails are sent
    mail_from: Annotated[str, AfterValidator(_sender)] | None = None
    log_format: Literal["json", "console"] | None = None  #: None: console at a terminal, json elsewhere
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: Where a worker or beat serves /healthz, /readyz and /metrics; none: it serves none.
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None

    @model_validator(mode="after")
    def _public_url_is_one(self) -> Settings:
        if not _is_base_url(self.public_url):
            raise ValueError("PUBLIC_URL: is not a base URL such as https://tokens.example")
        return self

    @model_validator(mode="after")
    def _mails_have_both(self) -> Settings:
        if (self.smtp_url is None) != (self.mail_from is None):
            missing, given = ("MAIL_FROM", "SMTP_URL") if self.mail_from is None else ("SMTP_URL", "MAIL_FROM")
            raise ValueError(f"{missing}: is not set, and mails need it beside {PREFIX}{given}")
        return self

    def public_url_or(self, port: int) -> str:
        """Return the public URL, or the loopback one of a port where none is set."""
        return self.public_url if "public_url" in self.model_fields_set else f"http://127.0.0.1:{port}"

    def require_database(self) -> Secret:
        """Return the database's URL.

        Raises:
            ConfigurationError: when none is set.

        """
        return _required(self.database_url, "DATABASE_URL", "postgresql://user@host/name")

    def require_broker(self) -> Secret:
        """Return the broker's URL.

        Raises:
            ConfigurationError: when none is set.

        """
        return _required(self.broker_url, "BROKER_URL", "redis://host/0")

    def require_keys(self) -> Secret:
        """Return the key ring.

        Raises:
            ConfigurationError: when none is set; the message says how to make one.

        """
        if self.keys is None:
            raise ConfigurationError("EVERGRANT_KEYS is not set; `evergrant keys generate` makes a key")
        return self.keys


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings out of an environment.

    Raises:
        ConfigurationError: one line that names every variable that is unknown, contradictory or malformed.

    """
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value != ""}
    fields: dict[str, str] = {}
    for name, value in sorted(given.items()):
        key = name.removeprefix(PREFIX).lower()
        if name.endswith(_FILE) and key.removesuffix("_file") in Settings.model_fields:
            plain = name.removesuffix(_FILE)
            if plain in given:
                raise ConfigurationError(f"{plain} and {name} contradict each other; set one of them")
            fields[key.removesuffix("_file")] = _read(name, Path(value))
        elif key in Settings.model_fields:
            fields[key] = value
        else:
            raise ConfigurationError(f"{name} is not a setting; config/example.env lists them all")
    try:
        return Settings.model_validate(fields)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_complaint(found) for found in error.errors(include_input=False))) from None


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message would not name the variable, and may repeat a password
        return False
    return (
        parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and not (parts.query or parts.fragment)
    )


def _complaint(found: Mapping[str, object]) -> str:
    loc = found["loc"]
    name = f"{PREFIX}{str(loc[0]).upper()}: " if isinstance(loc, tuple) and loc else PREFIX
    return name + str(found["msg"]).removeprefix("Value error, ")


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"{name}: cannot read {path}: {why}") from None


def _required(value: Secret | None, name: str, example: str) -> Secret:
    if value is None:
        raise ConfigurationError(
            f"{PREFIX}{name} is not set; set it, such as {example}, or start everything with `evergrant up`"
        )
    return value
