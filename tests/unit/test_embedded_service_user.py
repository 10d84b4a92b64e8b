"""Which capability lets nobody pass, and which directory is named when none does."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.service_user import (
    Capability,
    _choose,
    first_barrier,
    keepable_capabilities,
    may_execute,
    postgres_user,
)

UID, GID = 65534, 65534
BOTH = frozenset(Capability)


def status(mode: int, *, owner: int = 0, group: int = 0) -> os.stat_result:
    """Make what `stat` returns for a directory."""
    return os.stat_result((stat.S_IFDIR | mode, 0, 0, 1, owner, group, 0, 0, 0, 0))


@given(mode=st.integers(0, 0o777), owner=st.sampled_from([0, UID]), group=st.sampled_from([0, GID]))
def test_only_the_first_class_that_fits_counts(mode: int, owner: int, group: int) -> None:
    """The owner is judged by the owner's bit alone, a group member by the group's, anybody else by the last."""
    counts = 0o100 if owner == UID else 0o010 if group == GID else 0o001

    assert may_execute(status(mode, owner=owner, group=group), uid=UID, gid=GID) == bool(mode & counts)


@given(depth=st.integers(1, 6), closed=st.sets(st.integers(0, 5)))
def test_first_closed_directory_is_the_barrier(depth: int, closed: set[int]) -> None:
    """Of several closed directories on the way the one nearest to the root is named; the path itself does not count."""
    path = Path("/").joinpath(*(f"d{level}" for level in range(1, depth + 1)))
    closed_on_the_way = sorted(level for level in closed if level < depth)

    def status_of(directory: Path) -> os.stat_result:
        return status(0o700 if len(PurePosixPath(directory).parts) - 1 in closed else 0o755)

    barrier = first_barrier(path, uid=UID, gid=GID, status_of=status_of)

    expected = closed_on_the_way[0] if closed_on_the_way else None
    assert (None if barrier is None else len(barrier.parts) - 1) == expected


@pytest.mark.parametrize(
    ("permitted", "bounding", "expected"),
    [
        ("000001ffffffffff", "000001ffffffffff", BOTH),
        ("00000000a80425fb", "00000000a80425fb", {Capability.DAC_OVERRIDE}),
        ("000001ffffffffff", "00000000a80425fb", {Capability.DAC_OVERRIDE}),
        ("000001fffffffeff", "000001ffffffffff", set()),
        ("0000000000000000", "000001ffffffffff", set()),
    ],
    ids=["root", "container", "smaller bounding set", "without CAP_SETPCAP", "ordinary user"],
)
def test_what_may_be_handed_on_is_read_from_the_kernel(
    permitted: str, bounding: str, expected: set[Capability]
) -> None:
    """A capability counts when it is permitted and in the bounding set, and CAP_SETPCAP is held."""
    text = f"Name:\tpython\nCapInh:\t0\nCapPrm:\t{permitted}\nCapEff:\t{permitted}\nCapBnd:\t{bounding}\n"

    assert keepable_capabilities(text) == expected


@pytest.mark.parametrize(
    ("folder", "programs", "unexecutable", "keepable", "expected"),
    [
        (False, False, False, BOTH, None),
        (False, False, False, frozenset(), None),
        (True, False, False, BOTH, Capability.DAC_READ_SEARCH),
        (False, True, False, BOTH, Capability.DAC_READ_SEARCH),
        (True, True, True, BOTH, Capability.DAC_OVERRIDE),
        (True, False, False, {Capability.DAC_OVERRIDE}, Capability.DAC_OVERRIDE),
    ],
)
def test_least_capability_is_chosen(
    *, folder: bool, programs: bool, unexecutable: bool, keepable: frozenset[Capability], expected: Capability | None
) -> None:
    """No barrier, no capability; a closed directory takes the right to search; a closed program takes more."""
    chosen = _choose(
        folder_barrier=Path("/root") if folder else None,
        program_barriers=frozenset({Path("/root")} if programs else ()),
        unexecutable=frozenset({Path("/bin/sh")} if unexecutable else ()),
        keepable=keepable,
    )

    assert chosen == expected


def test_barrier_and_remedy_are_named(tmp_path: Path) -> None:
    """Without a capability the error names each barrier, and says what to move."""
    closed, program = tmp_path / "closed", tmp_path / "postgres"
    closed.mkdir(mode=0o700)
    program.touch(mode=0o600)

    with pytest.raises(EmbeddedServiceError, match=rf"{closed} \(mode 0700.*: set EVERGRANT_HOME_DIR to a folder"):
        _choose(folder_barrier=closed, program_barriers=frozenset(), unexecutable=frozenset(), keepable=frozenset())
    with pytest.raises(EmbeddedServiceError, match=rf"{program} \(mode 0600.*\(DAC_OVERRIDE\): install Evergrant"):
        _choose(
            folder_barrier=None,
            program_barriers=frozenset(),
            unexecutable=frozenset({program}),
            keepable=frozenset({Capability.DAC_READ_SEARCH}),
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root does change its user")
def test_ordinary_user_stays_itself(tmp_path: Path) -> None:
    """An ordinary user's server runs as that user, wherever it lies."""
    assert postgres_user(folder=tmp_path, programs=[Path("/bin/sh")]) is None
