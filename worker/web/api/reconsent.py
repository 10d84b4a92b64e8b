"""Asking a grant's owner to authorize again."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from worker.domain.reconsent import EXPLAINED, Asker
from worker.web.api.access import TheCaller, no_such_grant, own_grant
from worker.web.api.models import MailAnswer
from worker.web.api.problems import Kind, Problem, documented
from worker.web.api.route import IDEMPOTENT, POSTED, api_router
from worker.web.dependencies import TheContainer

router = api_router("grants")


@router.post(
    "/grants/{grant_id}/reconsent",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=IDEMPOTENT,
    responses=documented(HTTPStatus.NOT_FOUND, *POSTED),
)
async def ask_owner(caller: TheCaller, container: TheContainer, grant_id: UUID) -> MailAnswer:
    """Mail a grant's owner a link to authorize again, whatever the cool-down; not twice within some minutes."""
    await own_grant(caller, container, grant_id)
    if not container.mails.requests.sends:
        detail = "Mails are sent once EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM are set."
        raise Problem(HTTPStatus.CONFLICT, Kind.NO_MAIL_SERVER, detail)
    asked = await container.mails.requests.ask([grant_id], Asker.OPERATOR_BY_NAME)
    if not asked:
        raise no_such_grant(grant_id)
    [one] = asked
    recipient = one.candidate.addressee.recipient
    if one.why_not is not None or one.mail_id is None or recipient is None:
        why = one.why_not
        detail = f"{EXPLAINED[why][:1].upper()}{EXPLAINED[why][1:]}." if why is not None else "Ask again."
        about = {"grant": str(grant_id), "reason": why}
        raise Problem(HTTPStatus.CONFLICT, Kind.MAIL_NOT_SENT, detail, about=about)
    return MailAnswer(id=one.mail_id, grant=grant_id, recipient=recipient, held=one.candidate.braked)
