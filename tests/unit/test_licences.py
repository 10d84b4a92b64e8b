"""What the image holds may be passed on: each locked package says under which licence it is, and none asks for more."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Final

import pytest

from tests.support.dockerfile import ROOT

#: LGPL and MPL ask for the source of what they cover, which everybody has from the index; the others for a notice.
TAKEN: Final = re.compile(
    r"Apache|BSD|MIT|ISC|PSF|Python Software Foundation|LGPL-3\.0-only|Lesser General|MPL|Mozilla|Unlicense"
)
REFUSED: Final = re.compile(r"(?<!L)GPL|AGPL|Affero|(?<!Lesser )General Public|SSPL|BUSL|Proprietary|Commons Clause")


def _packages() -> list[str]:
    lines = (ROOT / "requirements-base.lock").read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0] for line in lines if re.match(r"[a-z0-9]", line)]


def _licence(package: str) -> str | None:
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return None  # for another system or another Python
    classifiers = [one for one in about.get_all("Classifier") or [] if one.startswith("License ::")]
    said = [about[key] for key in ("License-Expression", "License") if key in about]
    return str(about["License-Expression"] if "License-Expression" in about else "; ".join(classifiers or said))


@pytest.mark.parametrize("package", _packages())
def test_a_package_has_a_licence_that_is_taken(package: str) -> None:
    """It says which, and it is one of those that a service may be built on."""
    licence = _licence(package)
    if licence is None:
        pytest.skip("not installed here: it is for another system or another Python")
    assert TAKEN.search(licence), licence
    assert not REFUSED.search(licence), licence
