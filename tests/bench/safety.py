"""What is asked after a run of Evergrant: was a refresh token spent twice, is each grant's newest one stored?"""

from __future__ import annotations

from tests.bench import population
from tests.bench.world import World


def safety_facts(world: World, part: str) -> dict[str, float]:
    """Return both counts for what the endpoint and the database hold now, with nothing in flight any more.

    Args:
        world: the endpoint, and Evergrant's database.
        part: of the bench; the reach sums over all of them.

    """
    with world.connect() as connection:
        found = population.lost_tokens(connection, world.key_ring(), world.endpoint.generations())
    return {
        f"double_spends:{part}": float(world.endpoint.counts().double_spends),
        # Nobody kills anything here: an answer that nobody has read is lost too.
        f"lost:{part}": float(found.lost + found.in_doubt),
    }
