"""Delta: whatever the base, the frames give the new blob; and how few bytes they are."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import delta
from edgekit.delta import Base, Bytes
from edgekit_runtime import patch, similar
from edgekit_runtime.patch import CHUNK

BLOCK = 1 << 4


def array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)


def bases_of(*blobs: bytes, block: int = 0, known: bool = True) -> list[Base]:
    found = []
    for number, blob in enumerate(blobs, 1):
        size = block or similar.block_of(len(blob))
        sums = similar.signature(io.BytesIO(blob), size)
        found.append(Base(number, len(blob), size, sums, array(blob) if known else None))
    return found


def frames(new: bytes, bases: Sequence[Base], start: int = 0) -> bytes:
    data = array(new)
    return b"".join(delta.frame(data, piece, bases) for piece in delta.pieces(data, start, bases))


def applied(stream: bytes, sources: Sequence[bytes], size: int) -> bytes:
    handle = os.memfd_create("blob")
    try:
        patch.apply(io.BytesIO(stream), [io.BytesIO(source) for source in sources], handle, size)
        return os.pread(handle, size + 1, 0)
    finally:
        os.close(handle)


def size_of(new: bytes, *blobs: bytes, known: bool = True) -> int:
    """Bytes of the frames, which are proven to give the new blob."""
    stream = frames(new, bases_of(*blobs, known=known))
    assert applied(stream, blobs, len(new)) == new
    return len(stream)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A blob, and another made of parts of it and of new bytes."""
    old = draw(st.binary(max_size=400))
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.integers(0, len(old)))
        parts.append(draw(st.one_of(st.binary(max_size=60), st.just(old[first : first + draw(st.integers(0, 200))]))))
    return old, b"".join(parts)


@settings(max_examples=300)
@given(edited(), st.booleans(), st.integers(0, 100))
def test_what_is_made_gives_the_new_blob(blobs: tuple[bytes, bytes], known: bool, start: int) -> None:
    old, new = blobs
    start = min(start, len(new))
    stream = frames(new, bases_of(old, block=BLOCK, known=known), start)
    assert applied(stream, [old], len(new) - start) == new[start:]


@given(st.binary(min_size=1, max_size=300), st.integers(1, 40))
def test_weak_sums_are_those_of_zlib(data: bytes, block: int) -> None:
    block = min(block, len(data))
    places = range(len(data) - block + 1)
    assert delta.weak_sums(array(data), block).tolist() == [zlib.adler32(data[at : at + block]) for at in places]


def test_weak_sums_of_large_blocks() -> None:
    data = b"\xff" * (1 << 18)
    assert delta.weak_sums(array(data), len(data)).tolist() == [zlib.adler32(data)]


class TestFewBytes:
    SIZE = 16 * CHUNK

    @pytest.fixture
    def old(self) -> bytes:
        return np.random.default_rng(0).bytes(self.SIZE)

    @pytest.mark.parametrize("known", [True, False])
    def test_a_tail_that_changed(self, old: bytes, known: bool) -> None:
        new = old[:-CHUNK] + np.random.default_rng(1).bytes(CHUNK)
        assert size_of(new, old, known=known) < CHUNK + 1000

    @pytest.mark.parametrize("known", [True, False])
    def test_bytes_that_moved(self, old: bytes, known: bool) -> None:
        new = b"a few more" + old[:500_000] + old[500_100:]
        assert size_of(new, old, known=known) < 2 * similar.block_of(len(old)) + 1000

    def test_parts_of_two_blobs(self, old: bytes) -> None:
        other = np.random.default_rng(1).bytes(self.SIZE)
        assert size_of(old[: self.SIZE // 2] + other[: self.SIZE // 2], old, other, known=False) < 1000

    @pytest.mark.parametrize("moved", [b"", b"a longer head"])
    def test_weights_that_were_trained_on(self, moved: bytes) -> None:
        chance = np.random.default_rng(0)
        weights = chance.normal(size=self.SIZE) * 30
        old = np.rint(weights).astype(np.int8).tobytes()
        new = np.rint(weights + chance.normal(size=self.SIZE) * 0.6).astype(np.int8).tobytes()
        plain = len(zlib.compress(new, 9))
        assert size_of(moved + new, old) < plain / 3
        assert size_of(new, old, known=False) < plain

    def test_float_weights(self) -> None:
        weights = np.random.default_rng(0).normal(size=self.SIZE // 4).astype(np.float32)
        assert size_of(weights.tobytes()) < 0.95 * len(zlib.compress(weights.tobytes(), 9))
        assert size_of((weights * np.float32(1.001)).tobytes(), weights.tobytes()) < 0.75 * self.SIZE

    def test_what_does_not_deflate_goes_as_it_is(self, old: bytes) -> None:
        assert size_of(old) == self.SIZE + 16 * patch.HEADER.size

    def test_text(self) -> None:
        assert size_of(b"a line of text, and again " * 1000) < 400
