"""Bodies: what couriers pack comes out as it was; what anybody else sends does no harm."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.collect import bodies
from edgekit.collect.bodies import TooLarge, Unreadable, unpack
from edgekit_courier.parcels import MOST_BYTES, MOST_WINDOWS, Packer
from edgekit_runtime.windows import Window, dump

WINDOW = Window("digits", "sha256:" + "a" * 64, "0f" * 16, 0, 1.7e9, 1.7e9 + 60, {690: 3}, {"invalid_input": 1})
HEAD = b'{"schema_version":1,"now_s":1700000000.0}\n'


def packed(*lines: str | bytes, head: bytes = HEAD) -> bytes:
    return gzip.compress(head + b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))


def windows(number: int) -> tuple[Window, ...]:
    return tuple(replace(WINDOW, seq=seq) for seq in range(number))


def test_what_a_courier_packs_comes_out() -> None:
    told = [{"app": "digits"}]
    found = unpack(Packer(told).parcel(windows(3)).body)
    assert (found.windows, found.skipped, found.head["serves"]) == (windows(3), 0, told)
    assert found.head["now_s"] > 1.7e9


def test_no_parcel_of_a_courier_is_too_large() -> None:
    long = replace(WINDOW, buckets=dict.fromkeys(range(2500), 1 << 40))
    for made in (windows(2 * MOST_WINDOWS + 1), tuple(replace(long, seq=seq) for seq in range(20))):
        parcels = list(Packer().pack(made))
        assert len(parcels) > 1
        assert all(len(parcel.body) < min(MOST_BYTES, bodies.MOST_PACKED) for parcel in parcels)
        assert tuple(window for parcel in parcels for window in unpack(parcel.body).windows) == made


def test_lines_that_no_runtime_wrote_are_counted_and_passed_over() -> None:
    lies = [b"", b"\xff\xfe", "{", "[]", dump(replace(WINDOW, app="../x")), dump(replace(WINDOW, release="new"))]
    found = unpack(packed(*lies, dump(WINDOW), "x" * 2_000_000))
    assert (found.windows, found.skipped) == ((WINDOW,), len(lies) + 1)


@pytest.mark.parametrize("head", [b"", b"{}\n", b"[]\n", b'{"schema_version":2}\n', b"\xff\n", b"[" * 100_000 + b"\n"])
def test_without_a_head_it_is_no_delivery(head: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(packed(dump(WINDOW), head=head))


@pytest.mark.parametrize(
    "data", [b"", b"x", packed()[:-1], packed() + b"x", packed() * 2, zlib.compress(HEAD)], ids=range(6)
)
def test_what_is_no_gzip(data: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(data)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (64 << 20), 9)
    assert len(bomb) < bodies.MOST_PACKED
    with pytest.raises(TooLarge):
        unpack(bomb)
    with pytest.raises(TooLarge):
        unpack(packed(*[b"1"] * (bodies.MOST_LINES + 1)))
    with pytest.raises(TooLarge):
        unpack(b"\0" * (bodies.MOST_PACKED + 1))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 200), st.integers(0, 255))
def test_damage_is_told_or_passed_over(junk: bytes, at: int, value: int) -> None:
    whole = bytearray(packed(dump(WINDOW), junk.replace(b"\n", b"")))
    whole[at % len(whole)] = value
    for data in (bytes(whole), junk, packed(junk)):
        try:
            found = unpack(data)
        except (Unreadable, TooLarge):
            continue
        assert all(window == WINDOW for window in found.windows)
