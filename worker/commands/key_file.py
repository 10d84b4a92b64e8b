"""The file of EVERGRANT_KEYS_FILE, changed so that it is whole at every moment and read by nobody else."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.settings import PREFIX
from worker.storage.sealing import parse_keys

_NAME: Final = f"{PREFIX}KEYS_FILE"


def key_file(environment: Mapping[str, str], given: Path | None) -> Path | None:
    """Return the file that holds the key ring, or None where the environment itself does.

    Args:
        environment: the command's.
        given: what the command was told.

    """
    if given is not None:
        return given
    named = environment.get(_NAME)
    return Path(named) if named else None


def read_keys(path: Path) -> dict[str, Secret]:
    """Return the keys of a file, in their order.

    Raises:
        ConfigurationError: when it cannot be read, or is not well-formed.

    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the keys in {path}: {error}") from None
    return parse_keys(Secret(text))


def write_keys(path: Path, keys: Mapping[str, Secret]) -> None:
    """Put keys into a file in place of what was there, in one step, with the owner and the mode of before.

    Raises:
        ConfigurationError: when the file or its folder cannot be written to; then it is as it was.

    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        before = path.stat()
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(",".join(f"{key_id}:{key.reveal()}" for key_id, key in keys.items()) + "\n")
            file.flush()
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fsync(descriptor)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationError(f"cannot write the keys to {path}: {error.strerror}; it is as it was") from None
