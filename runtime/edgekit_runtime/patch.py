"""Patch: how the bytes of a blob come over, as frames that build upon blobs that the device has already.

A frame gives the next bytes of a blob: those of a source from some offset on, plus a residual, byte by byte modulo
256. Without a source the residual is the bytes; without a residual the source's are. The format is in
``docs/reference/formats.md``. Nothing that a frame says is believed: at most ``CHUNK`` bytes of it are held at a time,
and it gives never more than the blob still lacks.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from edgekit_runtime.bundle import LARGE
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 1 << 16
"""The most bytes that one frame gives by a residual. A link that is cut costs no more, and what was on its way."""
HEADER = struct.Struct(">BBIQI")
"""Encoding of the residual, source (0: none), bytes that it gives, offset in the source, bytes of the residual."""
NOTHING, PLAIN, DEFLATED, PLANES = range(4)
WIDTH = 4
"""With PLANES every WIDTH-th byte stands beside the next such, as alike as the exponents of float32 are."""


class Cut(BundleError):
    """The frames ended before the blob did."""


@dataclass(frozen=True)
class Frame:
    """A frame's header."""

    encoding: int
    source: int
    length: int
    offset: int = 0
    residual: int = 0

    def pack(self) -> bytes:
        return HEADER.pack(self.encoding, self.source, self.length, self.offset, self.residual)


def apply(stream: BinaryIO, sources: Sequence[BinaryIO], handle: int, left: int) -> None:
    """Write the ``left`` bytes that a blob lacks to an open file. Raises: Cut, BundleError, OSError."""
    while left:
        frame = Frame(*HEADER.unpack(_exactly(stream, HEADER.size)))
        _check(frame, len(sources), left)
        if frame.encoding == NOTHING:
            _copy(sources[frame.source - 1], frame, handle)
        else:
            piece = _residual(frame, _exactly(stream, frame.residual))
            given = _from(sources[frame.source - 1], frame.offset, frame.length) if frame.source else None
            _write(handle, added(given, piece) if given else piece)
        left -= frame.length


def _check(frame: Frame, sources: int, left: int) -> None:
    most = left if frame.encoding == NOTHING else min(CHUNK, left)
    if not 0 < frame.length <= most:
        raise BundleError(f"a frame gives {frame.length} bytes where {most} may come")
    if frame.encoding > PLANES or frame.source > sources or (frame.encoding == NOTHING and not frame.source):
        raise BundleError(f"a frame of an unknown kind: encoding {frame.encoding}, source {frame.source}")
    if frame.residual > frame.length or (frame.encoding == NOTHING and frame.residual):
        raise BundleError(f"a frame of {frame.length} bytes has {frame.residual} to give them")


def _residual(frame: Frame, data: bytes) -> bytes:
    if frame.encoding in (DEFLATED, PLANES):
        data = _inflated(data, frame.length)
    if len(data) != frame.length:
        raise BundleError(f"a frame of {frame.length} bytes gives {len(data)}")
    return joined(data) if frame.encoding == PLANES else data


def _inflated(data: bytes, length: int) -> bytes:
    """No further than that many bytes, whatever would come. Raises: BundleError."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, length + 1)  # one more: that many must also be all
    except zlib.error as error:
        raise BundleError(f"a frame that cannot be inflated: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise BundleError(f"a frame of {length} bytes does not end with them")
    return inflated


def _copy(source: BinaryIO, frame: Frame, handle: int) -> None:
    for at in range(0, frame.length, CHUNK):
        _write(handle, _from(source, frame.offset + at, min(CHUNK, frame.length - at)))


def _from(source: BinaryIO, offset: int, length: int) -> bytes:
    source.seek(min(offset, LARGE))
    given = source.read(length)
    if len(given) != length:
        raise BundleError(f"a frame takes {length} bytes at {offset} of a source that ends before")
    return given


def joined(planes: bytes) -> bytes:
    """The bytes that ``split`` has taken apart."""
    whole, at = bytearray(len(planes)), 0
    for plane in range(WIDTH):
        size = len(range(plane, len(planes), WIDTH))
        whole[plane::WIDTH] = planes[at : at + size]
        at += size
    return bytes(whole)


def split(data: bytes) -> list[bytes]:
    """Every WIDTH-th byte from the first on, from the second on, and so forth."""
    return [data[plane::WIDTH] for plane in range(WIDTH)]


def added(one: bytes, other: bytes) -> bytes:
    """The sums of two equally long byte strings, byte by byte modulo 256."""
    # As two large numbers: numpy takes longer to import on a small board than all of this does.
    low, high = _repeated(0x7F, len(one)), _repeated(0x80, len(one))
    a, b = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    summed = ((a & low) + (b & low)) ^ ((a ^ b) & high)  # seven bits never reach the next byte
    return summed.to_bytes(len(one), "little")


@lru_cache(maxsize=4)
def _repeated(byte: int, length: int) -> int:
    return int.from_bytes(bytes([byte]) * length, "little")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise Cut("the link was cut while the bundle came over", "push the bundle again")
    return data


def _write(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
