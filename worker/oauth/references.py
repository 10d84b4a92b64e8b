"""Secrets are written as references, `env:NAME` or `file:/path`, and found at the start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret

#: A secret file is read up to here; a longer one is a wrong path.
_FILE_LIMIT: Final = 64 * 1024


#: What stands for every secret where none is looked up.
NOT_LOOKED_UP: Final = Secret("")


def resolve(reference: str, what: str, environment: Mapping[str, str] | None) -> Secret:
    """Return what a reference refers to.

    Args:
        reference: `env:NAME` or `file:/path`.
        what: the table and key it stands in, for the message.
        environment: where names are looked up; with None nothing is, and only the reference's form is checked.

    Raises:
        ConfigurationError: one line that does not show the secret, even where it was written in place of a reference.

    """
    kind, _, rest = reference.partition(":")
    if environment is None and kind in {"env", "file"} and rest:
        return NOT_LOOKED_UP
    if kind == "env" and rest and environment is not None:
        if not environment.get(rest):
            message = f"{what}: environment variable {rest} is not set"
            raise ConfigurationError(message)
        return _encodable(Secret(environment[rest]), f"{what}: environment variable {rest}")
    if kind == "file" and rest:
        return _read(Path(rest), what)
    message = f"{what} must be a reference, env:NAME or file:/path, not the secret itself"
    raise ConfigurationError(message)


def _read(path: Path, what: str) -> Secret:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_FILE_LIMIT + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        message = f"{what}: cannot read {path}: {reason}"
        raise ConfigurationError(message) from None
    if len(text) > _FILE_LIMIT:
        message = f"{what}: {path} is too long for a secret"
        raise ConfigurationError(message)
    if not text.strip():
        message = f"{what}: {path} is empty"
        raise ConfigurationError(message)
    return Secret(text.strip())


def _encodable(secret: Secret, what: str) -> Secret:
    # Python reads an environment that is not UTF-8 as halves of surrogate pairs. Found later, at the first request, it
    # would look like the fault of every grant.
    try:
        secret.reveal().encode()
    except UnicodeEncodeError:
        message = f"{what} is not UTF-8"
        raise ConfigurationError(message) from None
    return secret
