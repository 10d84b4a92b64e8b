"""What the bench sums up out of a profiler's stacks."""

from __future__ import annotations

from tests.bench.stacks import read_costs

STACKS = """\
thread (1): MainThread;main (worker/cli.py:3);run (asyncio/runners.py:1) 50
thread (2): event-loop;run (threading.py:9);work (worker/usecases/drain.py:9);post (httpx/_client.py:7) 3
thread (2): event-loop;run (threading.py:9);work (worker/usecases/drain.py:9);store (worker/storage/settle.py:4) 2
thread (3): settles_0;run (threading.py:9);run (<frozen importlib._bootstrap>:1) 1
"""


def test_samples_are_summed_by_thread_package_function_and_our_own_callers() -> None:
    """The main thread does not count; what a library does is the cost of the function of ours that called it."""
    costs = read_costs(STACKS.splitlines())
    assert costs.samples == 6
    assert costs.threads == {"event-loop": 5, "settles": 1}
    assert costs.packages == {"httpx": 3, "worker": 2, "<frozen importlib._bootstrap>": 1}
    assert costs.functions["post (httpx/_client.py)"] == 3
    assert costs.ours == {
        "work (worker/usecases/drain.py)": 3,
        "store (worker/storage/settle.py)": 2,
        "none of ours": 1,
    }
