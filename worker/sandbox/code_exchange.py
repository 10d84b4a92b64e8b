"""An authorization code presented at the token endpoint: it becomes a family, or is refused."""

from __future__ import annotations

from collections.abc import Mapping

from worker.domain.secret import Secret
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.clients import Client
from worker.sandbox.codes import why_not_exchanged
from worker.sandbox.families import RevokedBecause
from worker.sandbox.issuing import start_family
from worker.sandbox.misbehaviour import Misbehaviour, Step, processes
from worker.sandbox.refreshing import Handled, answer_delay
from worker.sandbox.refusal import Refusal, invalid_request
from worker.sandbox.replies import Answered, token_reply, unprocessed_reply
from worker.sandbox.tallies import Tally
from worker.sandbox.token_answer import TokenAnswer


def handle_code(server: AuthorizationServer, client: Client, parameters: Mapping[str, str]) -> Handled:
    """Process one code exchange of an authenticated client, commit, and return the reply to send."""
    with server.transaction():
        now = server.world.now()
        order = server.orders.take(
            step=Step.CODE_EXCHANGE, client_id=client.client_id, family_id=None, draw=server.world.draw
        )
        if order is not None:
            server.tallies.count_fault(client.client_id, order.kind)
        if order is not None and not processes(order):
            reply = unprocessed_reply(order, now=now)
        else:
            revoke_at_once = order is not None and order.kind is Misbehaviour.REVOKED_CONSENT
            result = _exchange(server, client, parameters, now=now, revoke_at_once=revoke_at_once)
            reply = token_reply(client.profile, result, order)
        if isinstance(reply, Answered) and reply.error is not None:
            server.tallies.count_error(client.client_id, reply.error)
        return Handled(reply=reply, delay=answer_delay(server, client, order))


def _exchange(
    server: AuthorizationServer, client: Client, parameters: Mapping[str, str], *, now: float, revoke_at_once: bool
) -> TokenAnswer | Refusal:
    if "code" not in parameters:
        return invalid_request("code is missing")
    code = Secret(parameters["code"])
    facts = server.codes.find(code)
    refusal = why_not_exchanged(
        facts,
        client_id=client.client_id,
        redirect_uri=parameters.get("redirect_uri", ""),
        verifier=parameters.get("code_verifier") if client.profile.pkce else None,
        now=now,
    )
    if facts is not None and facts.client_id == client.client_id and facts.family_id is not None:
        # RFC 6749 section 4.1.2: a code that comes twice was stolen, and so may be its tokens.
        server.families.revoke(facts.family_id, because=RevokedBecause.CODE_REUSED, now=now)
    if refusal is not None:
        return refusal
    assert facts is not None
    family_id, answer = start_family(server, client=client, account=facts.account, scope=facts.scope, now=now)
    server.codes.mark_used(code, family_id=family_id)
    if revoke_at_once:
        server.families.revoke(family_id, because=RevokedBecause.CONSENT_REVOKED, now=now)
    server.tallies.count(client.client_id, Tally.CODES_EXCHANGED)
    return answer
