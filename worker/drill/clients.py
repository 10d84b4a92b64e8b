"""The clients of a drill: one for each way in which an authorization server treats an old refresh token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.sandbox.behaviour import Behaviour, Latency, Rotation
from worker.sandbox.profiles import ASKARA, RFC6749, Profile

#: Seconds that an access token lives: a grant is due every 13 to 15 s, so that some hundred make a steady load.
ACCESS_LIFETIME: Final = 20
#: Seconds before a request is given up; an ordered stall takes longer.
REQUEST_TIMEOUT: Final = 3
#: Seconds of a lease: a request, and the margin that the configuration demands.
LEASE: Final = 14
#: Seconds between strikes: short, so that a drill sees the second one.
STRIKE_INTERVAL: Final = 3
#: The environment variable with the client secret.
SECRET_VARIABLE: Final = "DRILL_CLIENT_SECRET"  # noqa: S105 -- the variable's name

#: An answer comes late enough that a kill finds requests under way, and now and then much later.
_LATENCY: Final = Latency(fixed=0.12, tail_share=0.03, tail=0.9)
_ASKED: Final = 'token_request_encoding = "json"\nclient_auth = "client_secret_post"'
_BASIC: Final = 'client_auth = "client_secret_basic"\npkce = "supported"'


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillClient:
    """One client: what the sandbox does, and the facts that our configuration states about it.

    Attributes:
        name: here and at the sandbox.
        profile: which server the sandbox imitates.
        behaviour: the sandbox's rules for it.
        facts: the provider's lines in our configuration.
        is_resend_safe: whether those allow the same refresh token again after any failure.

    """

    name: str
    profile: Profile
    behaviour: Behaviour
    facts: str
    is_resend_safe: bool = False

    def toml(self, sandbox_url: str) -> str:
        """Return the client's tables for the configuration file.

        The lifetime is among them: an answer that is given again within a grace may tell none that is left, and a grant
        that is taken to live for an hour then would outlast the drill, whatever its owner does.
        """
        base = sandbox_url + self.profile.prefix
        return f"""
[providers.{self.name}]
authorization_endpoint = "{base}/authorize"
token_endpoint = "{base}{self.profile.token_path}"
request_timeout = "{REQUEST_TIMEOUT}s"
strike_interval = "{STRIKE_INTERVAL}s"
access_lifetime = "{ACCESS_LIFETIME}s"
{self.facts}

[clients.{self.name}]
provider = "{self.name}"
client_id = "{self.name}"
client_secret = "env:{SECRET_VARIABLE}"
scopes = ["profile", "organization"]
"""


CLIENTS: Final = (
    DrillClient(
        name="single-use",
        profile=ASKARA,
        behaviour=Behaviour(access_lifetime=ACCESS_LIFETIME, latency=_LATENCY),
        facts=f'{_ASKED}\nrotation = "always"\nold_token = "invalidated"',
    ),
    DrillClient(
        name="reuse-grace",
        profile=RFC6749,
        behaviour=Behaviour(access_lifetime=ACCESS_LIFETIME, latency=_LATENCY, reuse_grace=30),
        facts=f'{_BASIC}\nrotation = "always"\nold_token = "grace"\nreuse_grace = "30s"',
    ),
    DrillClient(
        name="until-new-used",
        profile=RFC6749,
        behaviour=Behaviour(
            access_lifetime=ACCESS_LIFETIME, latency=_LATENCY, reuse_grace=86_400, grace_ends_on_use=True
        ),
        facts=f'{_BASIC}\nrotation = "always"\nold_token = "until_new_used"',
        is_resend_safe=True,
    ),
    DrillClient(
        name="not-rotated",
        profile=RFC6749,
        behaviour=Behaviour(access_lifetime=ACCESS_LIFETIME, latency=_LATENCY, rotation=Rotation.NEVER),
        facts=f'{_BASIC}\nrotation = "never"\nold_token = "stays_valid"',
        is_resend_safe=True,
    ),
)


def configuration(sandbox_url: str) -> str:
    """Return the configuration file of a drill's workers and beats."""
    limits = f'[worker]\nlease = "{LEASE}s"\ndrain_time = "10s"\nstop_time = "15s"\n'
    return limits + "".join(client.toml(sandbox_url) for client in CLIENTS)
