"""Files that belong to the code: the catalogue and the migrations, in a checkout as in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent
_INSTALLED: Final = _PACKAGE / "_data"


def catalogue_path() -> Path:
    """Return the path of the shipped providers' facts."""
    return _INSTALLED / "providers.toml" if _INSTALLED.is_dir() else _PACKAGE.parent / "config" / "providers.toml"


def migrations_path() -> Path:
    """Return the folder of the migrations."""
    return _INSTALLED / "alembic" if _INSTALLED.is_dir() else _PACKAGE.parent / "alembic"
