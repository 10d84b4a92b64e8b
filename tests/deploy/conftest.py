"""What the image holds, made once by the lines of its Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dockerfile import build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the Dockerfile's build stage and return the virtual environment that the image gets."""
    return build(tmp_path_factory.mktemp("image"))
