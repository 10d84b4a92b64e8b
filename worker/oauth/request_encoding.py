"""Parameters as endpoints want them: a form, JSON, or a query."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus, urlencode

from worker.oauth.provider_steps import RequestEncoding
from worker.oauth.provider_values import Parameter

#: RFC 3986 section 2.3.
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Parameters, ready to be sent: in a body, or in the query."""

    content_type: str | None = None
    content: bytes = b""
    query: str = ""


def encode(encoding: RequestEncoding, parameters: Mapping[str, Parameter]) -> Encoded:
    """Write parameters as an endpoint wants them."""
    texts = {name: written(value) for name, value in parameters.items()}
    # A token that arrived with half of a surrogate pair is presented as it came, and must not raise here.
    match encoding:
        case RequestEncoding.FORM:
            content = b"&".join(form_encoded(name) + b"=" + form_encoded(value) for name, value in texts.items())
            return Encoded(content_type="application/x-www-form-urlencoded", content=content)
        case RequestEncoding.JSON:
            return Encoded(content_type="application/json", content=json.dumps(parameters).encode("ascii"))
        case RequestEncoding.QUERY:
            # A query is no form: RFC 3986 knows no plus for a space.
            return Encoded(query=urlencode(texts, errors="surrogatepass", quote_via=quote))


def form_encoded(text: str) -> bytes:
    """Write a name or a value as a form has it."""
    # Most of what is sent needs no quoting, and finding that out is cheaper than quoting it.
    quoted = text if _UNRESERVED.fullmatch(text) else quote_plus(text, errors="surrogatepass")
    return quoted.encode("ascii")


def written(value: Parameter) -> str:
    """Return a parameter as text, for the encodings that know nothing else."""
    return str(value).lower() if isinstance(value, bool) else str(value)
