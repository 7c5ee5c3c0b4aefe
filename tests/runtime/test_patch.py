"""Frames: the same bytes come out, and of what is damaged never more than was to come."""

from __future__ import annotations

import io
import os
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime import patch
from edgekit_runtime.errors import BundleError
from edgekit_runtime.patch import CHUNK, DEFLATED, NOTHING, PLAIN, PLANES, Cut, Frame

SOURCE = bytes(range(256)) * 8


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def applied(stream: bytes, size: int) -> bytes:
    """What the frames give for a blob of that size, and is written of it when they are wrong."""
    handle = os.memfd_create("blob")
    try:
        patch.apply(io.BytesIO(stream), [io.BytesIO(SOURCE)], handle, size)
        return os.pread(handle, 1 << 20, 0)
    finally:
        assert os.fstat(handle).st_size <= size
        os.close(handle)


@given(st.data(), st.integers(0, 300))
def test_sums_are_byte_by_byte(data: st.DataObject, size: int) -> None:
    one, other = (data.draw(st.binary(min_size=size, max_size=size)) for _ in range(2))
    assert patch.added(one, other) == bytes((a + b) % 256 for a, b in zip(one, other, strict=True))


@given(st.binary(max_size=300))
def test_planes_are_joined_again(data: bytes) -> None:
    assert patch.joined(b"".join(patch.split(data))) == data


class TestKinds:
    DATA = b"what goes over" * 9

    def test_plain(self) -> None:
        frame = Frame(PLAIN, 0, len(self.DATA), 0, len(self.DATA)).pack() + self.DATA
        assert applied(frame + frame, 2 * len(self.DATA)) == self.DATA * 2

    @pytest.mark.parametrize("encoding", [DEFLATED, PLANES])
    def test_deflated(self, encoding: int) -> None:
        data = deflated(b"".join(patch.split(self.DATA)) if encoding == PLANES else self.DATA)
        assert applied(Frame(encoding, 0, len(self.DATA), 0, len(data)).pack() + data, len(self.DATA)) == self.DATA

    def test_of_a_source(self) -> None:
        assert applied(Frame(NOTHING, 1, 1000, 7).pack(), 1000) == SOURCE[7:1007]

    def test_a_long_part_of_a_source(self) -> None:
        source, handle = os.urandom(3 * CHUNK), os.memfd_create("blob")
        frame = Frame(NOTHING, 1, 2 * CHUNK + 5, 7).pack()
        patch.apply(io.BytesIO(frame), [io.BytesIO(source)], handle, 2 * CHUNK + 5)
        assert os.pread(handle, 3 * CHUNK, 0) == source[7 : 2 * CHUNK + 12]
        os.close(handle)

    def test_difference_to_a_source(self) -> None:
        data = deflated(b"\1" * 1000)
        frame = Frame(DEFLATED, 1, 1000, 7, len(data)).pack() + data
        assert applied(frame, 1000) == bytes((byte + 1) % 256 for byte in SOURCE[7:1007])


BOMB = deflated(bytes(1 << 24))
WRONG = {
    "nothing": Frame(PLAIN, 0, 0),
    "more than a chunk": Frame(PLAIN, 0, CHUNK + 1, 0, CHUNK + 1),
    "more than is to come": Frame(NOTHING, 1, 1001),
    "an unknown encoding": Frame(PLANES + 1, 1, 10),
    "an unknown source": Frame(NOTHING, 2, 10),
    "no source and no residual": Frame(NOTHING, 0, 10),
    "a source that ends before": Frame(NOTHING, 1, 1000, len(SOURCE) - 999),
    "far outside of the source": Frame(NOTHING, 1, 10, (1 << 64) - 1),
    "an endless residual": Frame(PLAIN, 0, 10, 0, (1 << 32) - 1),
    "nothing with a residual": Frame(NOTHING, 1, 10, 0, 5),
}


class TestWrong:
    @pytest.mark.parametrize("frame", WRONG.values(), ids=list(WRONG))
    def test_headers(self, frame: Frame) -> None:
        with pytest.raises(BundleError) as caught:
            applied(frame.pack() + bytes(2000), 1000)
        assert not isinstance(caught.value, Cut)

    @pytest.mark.parametrize(
        ("length", "residual"),
        [(1000, BOMB[:1000]), (100, deflated(b"x" * 99)), (100, deflated(b"x" * 101)), (100, b"\xff" * 20)],
        ids=["a bomb", "too few bytes", "too many", "not deflated"],
    )
    def test_residuals(self, length: int, residual: bytes) -> None:
        with pytest.raises(BundleError):
            applied(Frame(DEFLATED, 0, length, 0, len(residual)).pack() + residual, 1000)

    @pytest.mark.parametrize("size", [0, 5, patch.HEADER.size, patch.HEADER.size + 3])
    def test_an_end_that_comes_early(self, size: int) -> None:
        with pytest.raises(Cut):
            applied((Frame(PLAIN, 0, 10, 0, 10).pack() + bytes(10))[:size], 10)

    @settings(max_examples=300)
    @given(st.binary(max_size=200), st.integers(0, 2000))
    def test_rubbish(self, stream: bytes, size: int) -> None:
        with suppress(BundleError):
            assert len(applied(stream, size)) == size

    @settings(max_examples=300)
    @given(st.integers(0, 60), st.integers(0, 255))
    def test_a_byte_that_is_wrong(self, at: int, byte: int) -> None:
        residual = deflated(b"\1" * 500)
        good = Frame(PLANES, 1, 500, 3, len(residual)).pack() + residual + Frame(NOTHING, 1, 500, 9).pack()
        stream = bytearray(good)
        stream[at % len(good)] = byte
        with suppress(BundleError):
            assert len(applied(bytes(stream), 1000)) == 1000


def test_a_full_disk_is_no_fault_of_the_bundle(tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full here")
    handle = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        patch.apply(io.BytesIO(Frame(PLAIN, 0, 3, 0, 3).pack() + b"abc"), [], handle, 3)
    os.close(handle)
