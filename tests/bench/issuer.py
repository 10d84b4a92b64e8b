"""What the fast token endpoint knows: each grant's newest generation, and what was presented against the rules."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from tests.bench.tokens import access_token, read_refresh_token, refresh_token


@dataclass(slots=True)
class Counts:
    """What was presented, and what came of it."""

    rotations: int = 0  #: accepted, each refresh token once
    double_spends: int = 0  #: spent already when they were presented
    unknown: int = 0  #: none of ours


class Issuer:
    """Accepts each refresh token once, and issues the next.

    Args:
        grants: how many grants there are, numbered from 0; each begins with generation 0.
        expires_in: what is said of an access token's life, seconds.

    """

    def __init__(self, grants: int, expires_in: int) -> None:
        self.generations = array("I", bytes(4 * grants))
        self.counts = Counts()
        self._end = f'","token_type":"Bearer","expires_in":{expires_in}}}'

    def present(self, token: bytes) -> bytes | None:
        """Return the answer's JSON for a refresh token, or None where it is refused with `invalid_grant`."""
        read = read_refresh_token(token)
        if read is None or read[0] >= len(self.generations) or read[1] > self.generations[read[0]]:
            self.counts.unknown += 1
            return None
        number, generation = read
        if generation < self.generations[number]:
            self.counts.double_spends += 1
            return None
        self.counts.rotations += 1
        self.generations[number] = following = generation + 1
        issued = f'{{"access_token":"{access_token(number, following)}","refresh_token":"'
        return f"{issued}{refresh_token(number, following)}{self._end}".encode()
