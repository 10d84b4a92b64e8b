"""A provider's own words for what went wrong: rules that are asked, in order, before the built-in reading."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from worker.domain.outcome import Reason
from worker.oauth.provider_values import STRICT, Duration, FieldPath, FieldPaths, Parameter, Pattern, one_or_many


class ErrorOutcome(StrEnum):
    """What a rule can say; a success is never made by a rule."""

    DEAD = "dead"
    MISCONFIGURED = "misconfigured"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


#: Where providers put the words for a person.
DESCRIPTION_FIELDS: Final = (
    "error_description",
    "message",
    "error.message",
    "error_message",
    "description",
    "error.description",
    "errors.0.message",
    "reason",
    "detail",
    "msg",
)
#: The outcomes that need a reason beside the one they always have, and the reasons they may have.
_REASONS: Final = {
    ErrorOutcome.DEAD: (Reason.INVALID_GRANT,),
    ErrorOutcome.MISCONFIGURED: (
        Reason.INVALID_CLIENT,
        Reason.UNAUTHORIZED_CLIENT,
        Reason.INVALID_REQUEST,
        Reason.INVALID_SCOPE,
        Reason.UNSUPPORTED_GRANT_TYPE,
    ),
    ErrorOutcome.THROTTLED: (Reason.RATE_LIMITED,),
    ErrorOutcome.UNAVAILABLE: (Reason.TEMPORARILY_UNAVAILABLE,),
    ErrorOutcome.IN_DOUBT: (Reason.SERVER_ERROR,),
}


class ErrorRule(BaseModel):
    """`[[providers.NAME.errors]]`: everything that it names must hold. The first rule that matches decides."""

    model_config = STRICT

    status: Annotated[tuple[Annotated[int, Field(ge=100, le=999)], ...], BeforeValidator(one_or_many)] = ()
    field: FieldPath | None = None  #: where `value` is looked for; the `error` code if unset
    value: Annotated[tuple[Parameter, ...], BeforeValidator(one_or_many)] = ()  #: any of them
    description: Pattern | None = None  #: found anywhere in the words for a person
    description_field: FieldPaths = DESCRIPTION_FIELDS
    outcome: ErrorOutcome
    reason: Reason | None = None
    retry_after: Duration | None = None  #: for `throttled`, where the answer names no time

    @model_validator(mode="after")
    def _is_a_rule(self) -> ErrorRule:
        if not (self.status or self.value or self.field or self.description):
            message = "a rule needs status, field, value or description"
            raise ValueError(message)
        if self.outcome is ErrorOutcome.DEAD and not (self.value or self.description):
            message = 'outcome = "dead" needs value or description: a status alone does not end a grant'
            raise ValueError(message)
        if self.retry_after is not None and self.outcome is not ErrorOutcome.THROTTLED:
            message = 'retry_after goes with outcome = "throttled" only'
            raise ValueError(message)
        if self.reason is not None and self.reason not in _REASONS[self.outcome]:
            message = f"reason must be one of {', '.join(_REASONS[self.outcome])} with outcome = {self.outcome.value!r}"
            raise ValueError(message)
        return self

    @property
    def names_an_error(self) -> bool:
        """Whether it names a word of the provider's for an error, and not only a status or a member."""
        return bool(self.value) or self.description is not None

    @property
    def why(self) -> Reason:
        """Return the reason that goes with the outcome: the one that was given, or the first that it may have."""
        return self.reason or _REASONS[self.outcome][0]
