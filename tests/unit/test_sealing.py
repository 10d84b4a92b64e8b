"""Sealed columns: what opens, what does not, and what the errors say."""

from __future__ import annotations

import base64
import os
import re
import traceback
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.errors import BrokenSealError, ConfigurationError, SealError, UnknownKeyError
from worker.domain.secret import Secret
from worker.storage.sealing import (
    ACCESS_TOKEN,
    CODE_VERIFIER,
    KEY_BYTES,
    REFRESH_TOKEN,
    Column,
    KeyRing,
    generate_key,
    parse_keys,
)

ROW = UUID(int=1)
OTHER_ROW = UUID(int=2)
TOKEN = Secret("hunter2-the-refresh-token")

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too


def ring(*ids: str) -> KeyRing:
    """Make a ring of fresh keys under these ids, the first of which seals."""
    return KeyRing(parse_keys(keys_for(*ids)), os.urandom)


def keys_for(*ids: str) -> Secret:
    """Make fresh keys in the form of EVERGRANT_KEYS."""
    return Secret(",".join(generate_key(key_id, os.urandom).reveal() for key_id in ids))


@settings(deadline=None)
@given(value=ANY_TEXT, row=st.uuids())
def test_what_was_sealed_opens(value: str, row: UUID) -> None:
    """Any value comes back exactly, for the column and row it was sealed for, and does not stand in the bytes."""
    keys = ring("k1")

    sealed = keys.seal(Secret(value), REFRESH_TOKEN, row)

    assert keys.open(sealed, REFRESH_TOKEN, row).reveal() == value
    assert len(value) < 4 or value.encode("utf-8", "surrogatepass") not in sealed


def test_sealing_twice_gives_different_bytes() -> None:
    """Each seal draws a nonce of its own, so that equal tokens do not look equal."""
    keys = ring("k1")

    assert len({keys.seal(TOKEN, REFRESH_TOKEN, ROW) for _ in range(100)}) == 100


def test_the_nonce_is_the_drawn_one() -> None:
    """The format is a byte, the id's length, the id, twelve drawn bytes, then ciphertext and tag."""
    keys = KeyRing(parse_keys(keys_for("k1")), lambda count: b"N" * count)

    sealed = keys.seal(TOKEN, REFRESH_TOKEN, ROW)

    assert sealed.startswith(b"\x01\x02k1" + b"N" * 12)
    assert len(sealed) == 4 + 12 + len(TOKEN.reveal()) + 16


@pytest.mark.parametrize(
    ("column", "row"),
    [
        pytest.param(REFRESH_TOKEN, OTHER_ROW, id="another row"),
        pytest.param(ACCESS_TOKEN, ROW, id="another column"),
        pytest.param(CODE_VERIFIER, ROW, id="another table and column"),
        pytest.param(Column("other", "refresh_token"), ROW, id="another table"),
        pytest.param(REFRESH_TOKEN, str(ROW).upper().replace("0", "O"), id="another kind of row"),
    ],
)
def test_what_was_moved_does_not_open(column: Column, row: UUID | str) -> None:
    """A ciphertext copied to another place is refused, and the message names the place it was found in."""
    keys = ring("k1")
    sealed = keys.seal(TOKEN, REFRESH_TOKEN, ROW)

    with pytest.raises(BrokenSealError, match=re.escape(f"{column.table}.{column.column} of {row} does not open")):
        keys.open(sealed, column, row)


def test_no_byte_can_be_changed() -> None:
    """Whatever bit of whatever byte is flipped, the value does not open, and the error shows nothing of it."""
    keys = ring("k1")
    sealed = keys.seal(TOKEN, REFRESH_TOKEN, ROW)

    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(SealError) as caught:
                keys.open(bytes(changed), REFRESH_TOKEN, ROW)
            assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_nothing_can_be_cut_off_or_added() -> None:
    """No shorter and no longer byte string opens."""
    keys = ring("k1")
    sealed = keys.seal(TOKEN, REFRESH_TOKEN, ROW)

    for end in range(len(sealed)):
        with pytest.raises(BrokenSealError):
            keys.open(sealed[:end], REFRESH_TOKEN, ROW)
    with pytest.raises(BrokenSealError):
        keys.open(sealed + b"\x00", REFRESH_TOKEN, ROW)


@settings(deadline=None)
@given(junk=st.binary(max_size=200))
def test_what_was_never_sealed_does_not_open(junk: bytes) -> None:
    """Any other bytes raise a SealError and nothing else."""
    with pytest.raises(SealError):
        ring("k1").open(junk, REFRESH_TOKEN, ROW)
    with pytest.raises(SealError):
        ring("k1").open(b"\x01\x02k1" + junk, REFRESH_TOKEN, ROW)


def test_an_unknown_key_is_named() -> None:
    """A row sealed under a key that the ring lacks is refused with the key's id and the place."""
    sealed = ring("2024-old").seal(TOKEN, REFRESH_TOKEN, ROW)

    with pytest.raises(UnknownKeyError, match=r"grants\.refresh_token of .*01 is sealed under key '2024-old'"):
        ring("2026-new", "2025").open(sealed, REFRESH_TOKEN, ROW)


def test_another_key_under_the_same_id_is_said_to_be_one() -> None:
    """Where the id is known but the key is not the same, the message says that it may be another key."""
    sealed = ring("k1").seal(TOKEN, REFRESH_TOKEN, ROW)

    with pytest.raises(BrokenSealError, match="'k1': the key in EVERGRANT_KEYS under this id is another one"):
        ring("k1").open(sealed, REFRESH_TOKEN, ROW)


def test_a_ring_rotates() -> None:
    """A new first key seals from now on, the old one still opens, and without it old rows name what is missing."""
    old = keys_for("old")
    before = KeyRing(parse_keys(old), os.urandom)
    sealed_before = before.seal(TOKEN, REFRESH_TOKEN, ROW)

    during = KeyRing(parse_keys(Secret(f"{keys_for('new').reveal()},{old.reveal()}")), os.urandom)
    sealed_during = during.seal(TOKEN, REFRESH_TOKEN, ROW)

    assert during.key_ids == ("new", "old")
    assert during.open(sealed_before, REFRESH_TOKEN, ROW) == TOKEN
    assert during.open(sealed_during, REFRESH_TOKEN, ROW) == TOKEN
    with pytest.raises(UnknownKeyError, match="'new'"):
        before.open(sealed_during, REFRESH_TOKEN, ROW)


def test_fingerprints_compare_tokens_and_tell_nothing_of_them() -> None:
    """Equal tokens have equal fingerprints under one key, others and other keys give others, and none shows a token."""
    keys, other = ring("k1", "k2"), ring("k1")

    fingerprint = keys.fingerprint(TOKEN)

    assert re.fullmatch("k1:[0-9a-f]{32}", fingerprint)
    assert fingerprint == keys.fingerprint(Secret(TOKEN.reveal()))
    assert len({fingerprint, keys.fingerprint(Secret(TOKEN.reveal() + "x")), other.fingerprint(TOKEN)}) == 3
    assert keys.fingerprint(Secret("\ud800")) != keys.fingerprint(Secret("\udfff"))


def test_a_ring_prints_its_ids_only() -> None:
    """The repr of a ring names its keys and shows none."""
    keys = keys_for("a", "b")

    printed = repr(KeyRing(parse_keys(keys), os.urandom))

    assert printed == "KeyRing(a, b)"


def test_keys_are_read_in_their_order() -> None:
    """Ids with digits, dots, dashes and underscores are fine, and space around entries is not part of them."""
    text = keys_for("2026-11.v1_a", "B", "x" * 32)

    assert list(parse_keys(text)) == ["2026-11.v1_a", "B", "x" * 32]
    assert parse_keys(Secret(f" {text.reveal().replace(',', ' ,' + chr(10))} ")) == parse_keys(text)


KEY = base64.b64encode(bytes(range(32))).decode("ascii")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "entry 1 is not of the form id:base64"),
        (KEY, "entry 1 is not of the form id:base64"),
        (f":{KEY}", "entry 1 is not of the form id:base64"),
        (f"k1:{KEY},", "entry 2 is not of the form id:base64"),
        (f"k1:{KEY},{KEY}", "entry 2 is not of the form id:base64"),
        (f"k 1:{KEY}", "entry 1 is not of the form id:base64"),
        (f"{'k' * 33}:{KEY}", "entry 1 is not of the form id:base64"),
        (f"ключ:{KEY}", "entry 1 is not of the form id:base64"),
        (f"{KEY}:k1", "entry 1 is not of the form id:base64"),
        (f"k1:{KEY},k1:{KEY}", "the id 'k1' stands twice"),
        (f"k1:{KEY[:-1]}", "key 'k1' is not base64"),
        (f"k1:{KEY[:20]}!{KEY[21:]}", "key 'k1' is not base64"),
        (f"k1:{KEY[:20]} {KEY[20:]}", "key 'k1' is not base64"),
        (f"k1:{KEY}é", "key 'k1' is not base64"),
        (f"k1:{KEY};k2:{KEY}", "key 'k1' is not base64"),
        ("k1:", f"key 'k1' has 0 bytes instead of {KEY_BYTES}; `evergrant keys generate` makes one"),
        (f"k1:{KEY[:20]}", f"key 'k1' has 15 bytes instead of {KEY_BYTES}; `evergrant keys generate` makes one"),
    ],
)
def test_malformed_keys_are_refused_without_being_shown(text: str, problem: str) -> None:
    """The error names the entry and what is wrong with it, and neither it nor its traceback shows the key."""
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(Secret(text))

    assert str(caught.value) == f"EVERGRANT_KEYS: {problem}"
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY[:12] not in shown
    assert KEY[-12:] not in shown


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_a_ring_or_one_error(text: str) -> None:
    """No text raises anything but a ConfigurationError."""
    try:
        keys = parse_keys(Secret(text))
    except ConfigurationError:
        return
    assert KeyRing(keys, os.urandom).key_ids == tuple(keys)


@settings(deadline=None)
@given(
    entries=st.lists(
        st.tuples(st.text("ab :", max_size=4), st.text("789+/=!", min_size=8, max_size=60)), min_size=1, max_size=4
    )
)
def test_no_error_shows_a_key(entries: list[tuple[str, str]]) -> None:
    """Whatever is wrong with a list of ids and keys, the error shows no key."""
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(Secret(",".join(f"{key_id}{key}" for key_id, key in entries) + ",a:7"))

    assert not any(key in str(caught.value) for _key_id, key in entries)


def test_a_generated_key_is_of_full_length_and_drawn() -> None:
    """A key has 32 drawn bytes and its id, in the form that is read again."""
    key = generate_key("k1", lambda count: b"\x07" * count)

    assert key == Secret("k1:" + base64.b64encode(b"\x07" * 32).decode("ascii"))
    assert list(parse_keys(key)) == ["k1"]


@pytest.mark.parametrize("key_id", ["", "a b", "a:b", "a,b", "x" * 33, "é", "a\n"])
def test_a_generated_key_needs_an_id_that_can_be_read(key_id: str) -> None:
    """An id that EVERGRANT_KEYS could not hold is refused."""
    with pytest.raises(ConfigurationError, match="a key's id has 1 to 32 letters"):
        generate_key(key_id, os.urandom)
