"""What is known of how one provider answers: RFC 6749 where nothing is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Final

from worker.domain.facts import Anchor
from worker.oauth.placeholders import Source
from worker.oauth.provider import Provider
from worker.oauth.provider_answers import Answer
from worker.oauth.provider_errors import ErrorRule
from worker.oauth.provider_kinds import Style
from worker.oauth.provider_steps import TokenStep


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the answers to one step of a provider are read."""

    answer: Answer = field(default_factory=Answer)
    errors: tuple[ErrorRule, ...] = ()
    style: Style = Style.REFRESH_TOKEN
    new_refresh_lifetime: timedelta | None = None  #: of each new refresh token, where the answer does not say
    provider: Provider | None = None  #: whose placeholders the answer may fill

    @cached_property
    def captures(self) -> dict[str, str]:
        """Return the path of everything that is kept of an answer, by our name for it."""
        placeholders = self.provider.placeholders if self.provider is not None else {}
        filled = {
            name: declared.field or name for name, declared in placeholders.items() if declared.source is Source.ANSWER
        }
        return {**self.answer.capture, **filled}


#: Of a provider that keeps to the RFC.
RFC_6749: Final = Reading()


def reading_of(provider: Provider, step: TokenStep) -> Reading:
    """Return how the answers to one step of a provider are read."""
    renewed = provider.refresh_lifetime_anchor is Anchor.ISSUE
    return Reading(
        answer=step.answer or provider.answer,
        errors=provider.errors,
        style=provider.style,
        new_refresh_lifetime=provider.refresh_lifetime if renewed else None,
        provider=provider,
    )


class Readings:
    """The readings of all providers' steps, each worked out once."""

    def __init__(self) -> None:
        #: By step, with the provider that it is one of: as long as that is known here, no other step is in its place.
        self._known: dict[int, tuple[Provider, Reading]] = {}

    def of(self, provider: Provider, step: TokenStep) -> Reading:
        """Return what `reading_of` does."""
        its, reading = self._known.get(id(step), (None, RFC_6749))
        if its is not provider:
            reading = reading_of(provider, step)
            self._known[id(step)] = provider, reading
        return reading
