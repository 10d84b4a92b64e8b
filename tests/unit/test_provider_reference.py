"""The written reference of a provider's table names every key that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from worker.oauth.placeholders import Placeholder
from worker.oauth.provider import Provider
from worker.oauth.provider_answers import Answer
from worker.oauth.provider_errors import ErrorRule
from worker.oauth.provider_steps import AuthorizeStep, Redirect, TokenStep, ToolStep, UserinfoStep

REFERENCE = (Path(__file__).parents[2] / "config" / "providers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "table", [Provider, Placeholder, AuthorizeStep, Redirect, TokenStep, ToolStep, UserinfoStep, Answer, ErrorRule]
)
def test_every_key_is_written_down(table: type[BaseModel]) -> None:
    """A key that validation takes stands in the reference, so that nobody has to read the code for it."""
    keys = {field.alias or name for name, field in table.model_fields.items()} - {"name"}

    assert {key for key in keys if key not in REFERENCE} == set()
