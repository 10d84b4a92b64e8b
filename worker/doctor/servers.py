"""The broker, the mail server and the public URL: reached as the processes would reach them, and left as they were."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import aiosmtplib
import httpx
from kombu.connection import Connection
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.doctor.finding import Finding, error, ok, warning
from worker.domain.loopback import is_loopback
from worker.domain.secret import Secret
from worker.mail.delivery import open_connection
from worker.mail.server import read_mail_server

#: Seconds that a server may take to answer at all.
PATIENCE: Final = 5.0
_REDIS: Final = ("redis://", "rediss://", "unix://")


async def check_broker(url: Secret) -> list[Finding]:
    """Look whether the broker answers, and whether it throws messages or escrow entries away."""
    if not url.reveal().startswith(_REDIS):
        return [await asyncio.to_thread(_check_other_broker, url)]
    remedy = "check EVERGRANT_BROKER_URL, and that Redis or Valkey is up"
    try:
        broker: Redis = Redis.from_url(url.reveal(), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
    except ValueError:
        return [error("broker", "EVERGRANT_BROKER_URL is not a URL that Redis' client takes", remedy)]
    try:
        about = await broker.info()
    except (RedisError, OSError) as failed:
        return [error("broker", f"it does not answer: {type(failed).__name__}", remedy)]
    finally:
        await broker.aclose()
    named = about.get("valkey_version") or about.get("redis_version")
    findings = [ok("broker", f"answers, version {named}")]
    policy = about.get("maxmemory_policy", "noeviction")
    if about.get("maxmemory") and policy != "noeviction":
        findings.append(
            warning("broker", f"it evicts keys when it is full ({policy})", "CONFIG SET maxmemory-policy noeviction")
        )
    return findings


def _check_other_broker(url: Secret) -> Finding:
    try:
        connection: Any = Connection(url.reveal(), connect_timeout=PATIENCE)  # type: ignore[no-untyped-call]
        with connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE)
    except Exception as failed:  # noqa: BLE001 -- each transport raises errors of its own, and kombu others
        what = f"it does not answer: {type(failed).__name__}"
        return error("broker", what, "check EVERGRANT_BROKER_URL, and that the broker is up")
    return ok("broker", "answers")


async def check_mail_server(url: Secret, hello: str, tls: ssl.SSLContext) -> list[Finding]:
    """Connect to the mail server, sign in, and say goodbye: nothing is sent.

    Args:
        url: EVERGRANT_SMTP_URL.
        hello: how this host introduces itself.
        tls: verification settings.

    """
    server = read_mail_server(url)
    check = f"mail server {server.host}:{server.port}"
    try:
        smtp = await open_connection(server, hello, tls)
        try:
            await smtp.quit(timeout=PATIENCE)
        finally:
            smtp.close()
    except aiosmtplib.SMTPAuthenticationError as failed:
        return [error(check, f"it does not accept the user and password ({failed.code})", "check EVERGRANT_SMTP_URL")]
    except (aiosmtplib.SMTPException, OSError) as failed:
        said = failed.message if isinstance(failed, aiosmtplib.SMTPException) else str(failed)
        what = f"it cannot be used: {said or type(failed).__name__}"
        return [error(check, what, "check host, port and TLS of EVERGRANT_SMTP_URL; SSL_CERT_FILE holds private roots")]
    return [ok(check, "answers, and takes what it would be sent")]


async def check_public_url(url: str) -> list[Finding]:
    """Look whether owners' browsers can come back to it: over TLS, and to a running web process."""
    parts = urlsplit(url)
    findings = []
    if parts.scheme != "https" and not is_loopback(parts.hostname):
        findings.append(error("public URL", f"{url} is not https", "put TLS before the web processes"))
    elif is_loopback(parts.hostname):
        findings.append(
            warning("public URL", f"{url} leads to this machine only", "set EVERGRANT_PUBLIC_URL for other owners")
        )
    try:
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
            answer = await http.get(f"{url.rstrip('/')}/healthz")
    except httpx.HTTPError as failed:
        what = f"{url}/healthz does not answer from here: {type(failed).__name__}"
        findings.append(warning("public URL", what, "start `evergrant web`, and let the proxy lead to it"))
        return findings
    if answer.status_code != httpx.codes.OK:
        what = f"{url}/healthz answers {answer.status_code}"
        findings.append(warning("public URL", what, "let the proxy lead to `evergrant web`"))
    else:
        findings.append(ok("public URL", f"{url} answers"))
    return findings
