"""What an owner reads who comes back from a provider: what happened, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from fastapi.responses import HTMLResponse, RedirectResponse, Response

from worker.domain.account import AccountCheck
from worker.domain.grant import GrantState
from worker.domain.outcome import Dead, Failure, InDoubt, Misconfigured, Throttled, Unavailable
from worker.oauth.registry import Registry
from worker.storage.authorization_requests import Asked, StateRefused, TookTooLong
from worker.usecases.consent_results import (
    CallbackMalformed,
    ConsentEnd,
    ConsentRefused,
    ConsentResult,
    Ending,
    ErrorWithoutState,
    ExchangeFailed,
    GrantKept,
    GrantStored,
    IdTokenInvalid,
    NoRefreshToken,
    NotStored,
    NotTheAccount,
    Replayed,
    WrongIssuer,
    end_of,
)
from worker.web.pages import Link, Pages

#: RFC 6749 section 4.1.2.1: errors that blame our registration or our request; to begin again would not help.
_OURS: Final = frozenset({"invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"})
_TELL: Final = "Tell whoever runs this service."
_AGAIN: Final = "Start again from the link that brought you here."
_NOTHING: Final = "Nothing was stored."


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPages:
    """Shows what came of a callback."""

    pages: Pages
    registry: Registry

    def answer(self, result: ConsentResult) -> Response:
        """Return the page of a result, or send the owner on where the client's team has a page of its own."""
        match result:
            case GrantStored() | ConsentRefused(error="access_denied"):
                return self._sent_on(result) or self._ended(result)
            case Replayed():
                return self._replayed(result)
            case TookTooLong() | StateRefused() | ErrorWithoutState() | CallbackMalformed():
                return self._not_begun_here(result)
            case _:
                return self._ended(result)

    def _ended(self, result: Ending) -> HTMLResponse:
        match result:
            case GrantStored() | GrantKept() | NotStored():
                return self._authorized(result)
            case NotTheAccount(asked=asked, check=check):
                return self._not_the_account(asked, check)
            case IdTokenInvalid() | WrongIssuer():
                return self._mixed_up(result)
            case ConsentRefused(asked=asked, error=error):
                return self._refused(asked, error)
            case ExchangeFailed() | NoRefreshToken():
                return self._not_exchanged(result)
            case CallbackMalformed():
                return self._not_begun_here(result)
            case _:
                assert_never(result)

    def _authorized(self, result: GrantStored | GrantKept | NotStored) -> HTMLResponse:
        asked, provider = result.asked, self._provider(result.asked)
        text = f"{asked.subject} is connected to {provider}."
        match result:
            case GrantStored(state=GrantState.PAUSED):
                more = "Whoever runs this service has paused it, and it goes on when they let it."
                return self._page(asked, 200, "Connected, and paused", f"{text} {more}", again=False)
            case GrantStored():
                return self._page(asked, 200, "Connected", f"{text} You can close this page.", again=False)
            case GrantKept():
                text = (
                    f"You have authorized {provider}, and our database does not answer just now. What you authorized "
                    "is kept safe and is stored as soon as it does. There is nothing left for you to do."
                )
                return self._page(asked, 202, "Almost connected", text, again=False)
            case NotStored():
                text = f"You have authorized, but our database did not answer in time. {_NOTHING}"
                return self._page(asked, 503, "Not connected yet", f"{text} Wait a moment, then begin again.")

    def _not_the_account(self, asked: Asked, check: AccountCheck) -> HTMLResponse:
        provider = self._provider(asked)
        if check is AccountCheck.NOT_TOLD:
            text = f"{provider} did not say whose account you have used, so it could not be compared with the one of"
            return self._page(asked, 502, "Whose account is this?", f"{text} before. {_NOTHING} Begin again.")
        text = (
            f"{asked.subject} was connected to {provider} with another account than the one you have just used. "
            f"{_NOTHING} Sign out of {provider}, or open a private window, and begin again with the account of before. "
            "If the change is meant, ask whoever sent you here to allow it."
        )
        return self._page(asked, 409, "Another account", text)

    def _mixed_up(self, result: IdTokenInvalid | WrongIssuer) -> HTMLResponse:
        match result:
            case WrongIssuer(asked=asked):
                text = f"The answer came from another server than the one you were sent to. {_NOTHING} Begin again."
                return self._page(asked, 400, "Wrong provider", text)
            case IdTokenInvalid(asked=asked):
                text = f"What {self._provider(asked)} says of who signed in does not belong to this request. {_NOTHING}"
                more = "Begin again; if that does not help, tell whoever runs this service."
                return self._page(asked, 502, "This answer does not fit", f"{text} {more}")

    def _refused(self, asked: Asked, error: str) -> HTMLResponse:
        if error == "access_denied":
            text = f"You chose not to authorize {self._provider(asked)}. Nothing was changed. Begin again if you like."
            return self._page(asked, 403, "Not authorized", text)
        text = f"{self._provider(asked)} answered “{error}”. {_NOTHING}"
        if error in _OURS:
            more = f"It does not accept our registration or what we asked for. {_TELL}"
            return self._page(asked, 502, "The provider refused", f"{text} {more}", again=False)
        return self._page(asked, 502, "The provider refused", f"{text} Wait a moment, then begin again.")

    def _not_exchanged(self, result: ExchangeFailed | NoRefreshToken) -> HTMLResponse:
        match result:
            case ExchangeFailed(asked=asked, failure=failure):
                again = not isinstance(failure, Misconfigured)
                return self._page(asked, 502, "Not connected", _why_not_connected(failure), again=again)
            case NoRefreshToken(asked=asked):
                text = f"The provider gave no refresh token, so there is nothing that could be kept alive. {_TELL}"
                return self._page(asked, 502, "No lasting access", text, again=False)

    def _not_begun_here(
        self, result: TookTooLong | StateRefused | ErrorWithoutState | CallbackMalformed
    ) -> HTMLResponse:
        match result:
            case TookTooLong(asked=Asked() as asked):
                text = f"A request is good for 15 minutes. {_NOTHING} Begin again."
                return self._page(asked, 400, "This took too long", text)
            case TookTooLong():
                title, text = "This took too long", "A request is good for 15 minutes."
            case StateRefused.UNKNOWN:
                title, text = "We do not know this request", "It was not started here, or long ago."
            case StateRefused.UNMARKED:
                title = "Not started in this browser"
                text = (
                    "Your browser did not bring the cookie that it was given here. Allow cookies for this site, and "
                    "stay in one browser and at one address."
                )
            case StateRefused.FOREIGN:
                title = "Not started in this browser"
                text = "This request was started in another browser. You can go on there."
            case ErrorWithoutState(error=error):
                title = "This answer is not complete"
                text = f"The provider answered “{error}” and did not say to which request."
            case CallbackMalformed(what=what):
                title, text = "This answer is not complete", f"In what the provider sent, {what}."
            case _:
                assert_never(result)
        return self.pages.message(400, title, f"{text} {_NOTHING} {_AGAIN}")

    def _replayed(self, replayed: Replayed) -> HTMLResponse:
        asked = replayed.asked
        match replayed.ended:
            case ConsentEnd.CONNECTED | ConsentEnd.KEPT:
                text = f"This answer was used before, and it connected {asked.subject} to {self._provider(asked)}."
                return self._page(
                    asked, 400, "Connected already", f"{text} You can close this page.", again=False, good=True
                )
            case ConsentEnd.DENIED:
                why = "You chose not to authorize then."
            case ConsentEnd.ACCOUNT_REFUSED:
                why = "It was for another account, and was refused."
            case ConsentEnd.FAILED:
                why = "It did not connect you."
            case None:
                text = "This answer came before, and it is not known yet what came of it. Wait a moment and reload this"
                return self._page(asked, 400, "One moment", f"{text} page, or begin again.")
            case _:
                assert_never(replayed.ended)
        return self._page(asked, 400, "Already used", f"This answer was used before. {why} Begin again.")

    def _page(
        self, asked: Asked, status: int, title: str, text: str, *, again: bool = True, good: bool | None = None
    ) -> HTMLResponse:
        links = [Link(label="Begin again", href=_begin_again(asked))] if again else []
        return_to = self._return_to(asked)
        if return_to is not None:
            links.append(Link(label=f"Go back to {urlsplit(return_to).hostname}", href=return_to))
        return self.pages.message(status, title, text, links=links, good=good)

    def _sent_on(self, result: GrantStored | ConsentRefused) -> RedirectResponse | None:
        return_to = self._return_to(result.asked)
        if return_to is None:
            return None
        told = {"client": result.asked.client, "subject": result.asked.subject, "outcome": end_of(result).value}
        if isinstance(result, GrantStored):
            told["grant"] = str(result.grant_id)
        return RedirectResponse(_with_parameters(return_to, told), status_code=303)

    def _return_to(self, asked: Asked) -> str | None:
        """Return where an owner goes on to, if the configuration still allows it."""
        client = self.registry.clients.get(asked.client)
        return asked.return_to if client is not None and asked.return_to in client.return_urls else None

    def _provider(self, asked: Asked) -> str:
        client = self.registry.clients.get(asked.client)
        return (client.provider.display_name or client.provider.name) if client is not None else "the provider"


def _begin_again(asked: Asked) -> str:
    wanted = {"subject": asked.subject, "email": asked.email, "return_to": asked.return_to}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    return f"/connect/{quote(asked.client, safe='')}?{query}"


def _with_parameters(url: str, parameters: dict[str, str]) -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode(parameters))))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _why_not_connected(failure: Failure) -> str:
    match failure:
        case Misconfigured():
            return f"The provider does not accept our registration. {_NOTHING} {_TELL}"
        case InDoubt():
            return f"The provider's answer could not be read. {_NOTHING} Begin again."
        case Throttled():
            return f"The provider asks us to slow down. {_NOTHING} Wait a minute, then begin again."
        case Unavailable(sent=False):
            return f"The provider could not be reached. {_NOTHING} Wait a moment, then begin again."
        case Dead() | Unavailable():
            return f"The provider did not accept the code. {_NOTHING} Begin again."
