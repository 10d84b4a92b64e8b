"""What a page says after an act. Addresses carry a word from this closed list and counts, never a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from worker.domain.outcome import Reason
from worker.domain.reconsent import EXPLAINED, WhyNot
from worker.web.verdict import Tone
from worker.web.words import number, plain_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of an act, and whether it is good."""

    tone: Tone
    text: str


_GOOD: Final[Mapping[str, str]] = {
    "refreshed": "Refreshed: the new tokens are stored.",
    "mailed": "A mail was asked for. A worker sends it within seconds.",
    "email_set": "Its owner's address is changed.",
    "paused": "Paused. It is not refreshed until it is resumed.",
    "resumed": "Resumed. It is refreshed when it is due.",
    "revoked": "Ended, here and at the provider.",
    "client_paused": "Paused. None of its grants is refreshed until it is resumed.",
    "client_resumed": "Resumed. What is overdue is caught up with on a ramp.",
    "endpoint_paused": "Paused. What happens is kept for it.",
    "endpoint_resumed": "Resumed. What waits follows at once.",
    "tried_good": "The connection is good: the provider is there, knows this client, and did not know the made-up "
    "refresh token that was presented.",
    "token_revoked": "Revoked. Within two seconds no request with it is answered any more.",
    "session_ended": "Ended. Whoever it was has to sign in again.",
    "delivered": "The endpoint took a signed message of trial.",
}
_QUIET: Final[Mapping[str, str]] = {
    "erased": "That was settled before: none of its tokens is left that the provider could be asked to end.",
    "unchanged": "Nothing was to be changed: it was so already.",
    "tried_not_refreshed": "There is nothing to try: tokens of this provider are not refreshed.",
    "nothing_dead": "Nothing was to be sent again.",
}
_WATCH: Final[Mapping[str, str]] = {
    "no_address": "That is no mail address. Nothing was changed.",
    "not_possible": "Its state does not allow that any more. This is how it stands now.",
    "revoked_here": "Ended here. The provider offers no way to end it there: its owner can, in their settings.",
    "not_confirmed": "Ended here, and the provider has not confirmed it. Press “Revoke” again later.",
    "consented_again": "Its owner has consented again at this moment, so it is alive. Press “Revoke” again to end it.",
    "held_back": "Not refreshed: its client is held back, or has as much under way as it may. See the client.",
    "too_early": "Not refreshed: its provider takes no refresh yet. The stored access token is good.",
    "refused": "Not refreshed: the provider has just refused it. It is tried again, in case that was an error.",
    "tried_accepted": "The provider is there, and answered a made-up refresh token with tokens: it does not check it.",
    "no_mail_server": "No mail can be sent: set EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM.",
    "not_delivered": "The endpoint did not take the message of trial. “Last error” or the log says why.",
    "unreadable": "A stored token does not open with the keys at hand. Check EVERGRANT_KEYS.",
    "not_configured": "Its client is not configured any more. Add it to the configuration.",
}


#: Where the words for a grant do not fit a try, at which nothing was spent.
_TRIED: Final[Mapping[Reason, str]] = {
    Reason.CONNECT: "The provider cannot be reached. Check token_endpoint and this machine's way to it.",
    Reason.NO_ANSWER: "The connection broke before the answer came. Try again.",
    Reason.TIMEOUT: "The provider did not answer in time. Try again.",
    Reason.SERVER_ERROR: "The provider failed while answering. Try again later.",
    Reason.UNREADABLE_ANSWER: "The provider's answer could not be read. Check token_endpoint.",
    Reason.REQUEST_INCOMPLETE: "The request lacks a value that only a grant has, so it cannot be tried without one.",
}


def read_said(
    said: str | None, why: str | None = None, count: int | None = None, left: int | None = None
) -> Said | None:
    """Return what to say for the words of an address; None for words that are none of ours.

    Args:
        said: which act.
        why: a reason, for acts that name one.
        count: how many it was about, for acts on many.
        left: how many were left out.

    """
    for tone, texts in ((Tone.GOOD, _GOOD), (Tone.QUIET, _QUIET), (Tone.WATCH, _WATCH)):
        if said is not None and said in texts:
            return Said(tone=tone, text=texts[said])
    return _why(said, why) if count is None else _counted(said, count, left or 0)


def _why(said: str | None, why: str | None) -> Said | None:
    if said == "refresh_failed" and why in set(Reason):
        return Said(tone=Tone.WATCH, text=f"Not refreshed. {plain_reason(why)}")
    if said in {"tried_misconfigured", "tried_unclear"} and why in set(Reason):
        tone = Tone.BAD if said == "tried_misconfigured" else Tone.WATCH
        return Said(tone=tone, text=f"The connection is not good. {_TRIED.get(Reason(why)) or plain_reason(why)}")
    if said == "not_mailed" and why in set(WhyNot):
        return Said(tone=Tone.WATCH, text=f"No mail was asked for: {EXPLAINED[WhyNot(why)]}.")
    return None


def _counted(said: str | None, count: int, left: int) -> Said | None:
    if said == "replayed":
        return Said(tone=Tone.GOOD, text=f"{number(count)} {'event' if count == 1 else 'events'} will be sent again.")
    if said == "asked":
        grants = "1 grant" if count == 1 else f"{number(count)} grants"
        several = f" {number(left)} grants were left out, for the reasons below."
        others = {0: "", 1: " 1 grant was left out, for the reason below."}.get(left, several)
        tone = Tone.GOOD if count else Tone.WATCH
        return Said(tone=tone, text=f"Mails about {grants} were asked for; workers send them within minutes.{others}")
    return None
