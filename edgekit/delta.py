"""Delta: the frames of a blob, built upon blobs that the device has (``edgekit_runtime.patch`` has the format).

What stands in a base block by block, wherever, is named (Tridgell and Mackerras, "The rsync algorithm", 1996). Of the
rest goes the difference to a base that this host has too, where that deflates better than the bytes themselves: weights
that were trained on keep their signs and exponents.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit_runtime import similar
from edgekit_runtime.patch import CHUNK, DEFLATED, NOTHING, PLAIN, PLANES, Frame, split

Bytes = NDArray[np.uint8]
Blocks = Mapping[bytes, int]
"""The numbers of a base's blocks by their sums."""
Gap = tuple[int, int]
ADLER = 65521
LONGEST = 1 << 30
AT_ONCE = 1 << 17  # places; the numbers for more of them leave the processor's cache
PROBE, FEW = 32, 8
"""A long gap is searched only if one of many probes finds something: in weights that were trained on nothing is."""
SAMPLES, SAMPLE = 4, 1 << 11


@dataclass(frozen=True)
class Base:
    """A blob of the device: its number among the sources of the frames, and its bytes, if they are here too."""

    number: int
    size: int
    block: int
    sums: bytes
    data: Bytes | None = field(default=None, compare=False)  # the sums tell as much
    digest: str = ""


@dataclass(frozen=True)
class Piece:
    """Bytes of the new blob from ``start`` on; with a base they are those of the base from ``offset`` on."""

    start: int
    length: int
    base: Base | None = None
    offset: int = 0


def pieces(new: Bytes, start: int, bases: Sequence[Base]) -> Iterator[Piece]:
    """The blob from ``start`` on, in order, new bytes no more than CHUNK at a time."""
    gaps = [(start, len(new))]
    found: list[Piece] = []
    for base in [each for each in bases if each.sums]:
        blocks = {base.sums[i : i + similar.SUMS]: i // similar.SUMS for i in range(0, len(base.sums), similar.SUMS)}
        for places in (_in_step, _anywhere):
            copies = [piece for gap in gaps for piece in _copies(new, places(new, gap, base, blocks), base, blocks)]
            found = sorted([*found, *copies], key=lambda piece: piece.start)
            gaps = list(_gaps(found, start, len(new)))
    joined = list(_joined(found))
    ends = [*(piece.start for piece in joined[1:]), len(new)]
    copied = [_stretched(new, piece, end) for piece, end in zip(joined, ends, strict=False)]
    rest = [Piece(first, end - first) for first, end in _gaps(copied, start, len(new))]
    for piece in sorted([*copied, *rest], key=lambda piece: piece.start):
        most = LONGEST if piece.base else CHUNK
        for at in range(0, piece.length, most):
            yield Piece(piece.start + at, min(most, piece.length - at), piece.base, piece.offset + at)


def _stretched(new: Bytes, piece: Piece, end: int) -> Piece:
    """With what follows it in a base that is here, too, until they differ."""
    if not piece.base or piece.base.data is None:
        return piece
    theirs = piece.base.data[piece.offset + piece.length :][: min(end - piece.start - piece.length, piece.base.block)]
    differs = np.flatnonzero(new[piece.start + piece.length :][: len(theirs)] != theirs)
    more = int(differs[0]) if len(differs) else len(theirs)
    return Piece(piece.start, piece.length + more, piece.base, piece.offset)


def _copies(new: Bytes, places: Iterable[int], base: Base, blocks: Blocks) -> Iterator[Piece]:
    """Blocks of the base that stand at some of these places, none over another."""
    free = 0
    for at in places:
        if at >= free:
            number = blocks.get(similar.sums(new[at : at + base.block].tobytes()))
            if number is not None:
                yield Piece(at, base.block, base, number * base.block)
                free = at + base.block


def _in_step(new: Bytes, gap: Gap, base: Base, blocks: Blocks) -> Iterable[int]:
    """Where blocks of the base would stand if nothing had moved."""
    return range(-(-gap[0] // base.block) * base.block, gap[1] - base.block + 1, base.block)


def _anywhere(new: Bytes, gap: Gap, base: Base, blocks: Blocks) -> Iterator[int]:
    """Where the weak sum of a block of the base stands."""
    weak = WeakSums.of(base)
    end = gap[1] - base.block + 1
    probes = range(gap[0], end - base.block, PROBE * base.block)
    probed = (at for first in probes for at in weak.places(new, first, first + base.block))
    if len(probes) < FEW or next(_copies(new, probed, base, blocks), None):
        for first in range(gap[0], end, AT_ONCE):
            yield from weak.places(new, first, min(first + AT_ONCE, end))


@dataclass(frozen=True)
class WeakSums:
    """The weak sums of a base's blocks, and which of their folded halves occur."""

    block: int
    known: NDArray[np.uint32]
    likely: NDArray[np.bool_]

    @staticmethod
    def of(base: Base) -> WeakSums:
        known = np.sort(np.frombuffer(base.sums, ">u4")[:: similar.SUMS // 4].astype(np.uint32))
        likely = np.zeros(1 << 16, bool)
        likely[_folded(known)] = True
        return WeakSums(base.block, known, likely)

    def places(self, new: Bytes, first: int, last: int) -> list[int]:
        """Where one of them stands, from ``first`` on and before ``last``."""
        rolled = weak_sums(new[first : last + self.block - 1], self.block)
        at = np.flatnonzero(self.likely[_folded(rolled)])
        near = np.minimum(np.searchsorted(self.known, rolled[at]), len(self.known) - 1)
        found: list[int] = (first + at[self.known[near] == rolled[at]]).tolist()
        return found


def _folded(sums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    folded: NDArray[np.uint32] = (sums ^ (sums >> np.uint32(16))) & np.uint32(0xFFFF)
    return folded


def weak_sums(data: Bytes, block: int) -> NDArray[np.uint32]:
    """Adler-32 of the block at every place of some bytes; uint32 [len(data) - block + 1]."""
    places = np.arange(len(data) - block + 1, dtype=np.uint64)
    wide = np.concatenate([np.zeros(1, np.uint64), data.astype(np.uint64)])
    plain = np.cumsum(wide)
    weighted = np.cumsum(wide * np.arange(len(wide), dtype=np.uint64))  # wraps, and so does what is taken from it
    one = plain[block:] - plain[:-block]
    two = (places + np.uint64(block + 1)) * one - (weighted[block:] - weighted[:-block])
    low, high = (one + np.uint64(1)) % np.uint64(ADLER), (two + np.uint64(block)) % np.uint64(ADLER)
    sums: NDArray[np.uint32] = ((high << np.uint64(16)) | low).astype(np.uint32)
    return sums


def _joined(found: Sequence[Piece]) -> Iterator[Piece]:
    """Neighbours in both blobs as one."""
    last: Piece | None = None
    for piece in found:
        if last and (last.start + last.length, last.base, last.offset + last.length) == (
            piece.start,
            piece.base,
            piece.offset,
        ):
            last = Piece(last.start, last.length + piece.length, last.base, last.offset)
        else:
            if last:
                yield last
            last = piece
    if last:
        yield last


def _gaps(found: Sequence[Piece], start: int, end: int) -> Iterator[tuple[int, int]]:
    for piece in found:
        if piece.start > start:
            yield start, piece.start
        start = piece.start + piece.length
    if start < end:
        yield start, end


def frame(new: Bytes, piece: Piece, bases: Sequence[Base]) -> bytes:
    """A piece as a frame, the smallest of those that were tried on samples of it."""
    if piece.base:
        return Frame(NOTHING, piece.base.number, piece.length, piece.offset).pack()
    chunk = new[piece.start : piece.start + piece.length]
    tried = [(0, 0, chunk), *_differences(chunk, piece, bases, len(new))]
    source, offset, residual = min(tried, key=lambda each: _smallest(_sample(each[2]))[0])
    _, encoding, strategy = _smallest(_sample(residual))
    data = _deflated(residual.tobytes(), encoding, strategy)
    if len(data) >= piece.length:
        return plain(new, piece)
    return Frame(encoding, source, piece.length, offset, len(data)).pack() + data


def plain(new: Bytes, piece: Piece) -> bytes:
    """A piece as it is."""
    chunk = new[piece.start : piece.start + piece.length].tobytes()
    return Frame(PLAIN, 0, piece.length, 0, piece.length).pack() + chunk


def _differences(chunk: Bytes, piece: Piece, bases: Sequence[Base], size: int) -> Iterator[tuple[int, int, Bytes]]:
    """To each base that is here: to what stands as far from its start, and as far from its end."""
    for base in bases:
        for offset in {piece.start, piece.start + base.size - size}:
            if base.data is not None and 0 <= offset <= base.size - piece.length:
                yield base.number, offset, chunk - base.data[offset : offset + piece.length]


def _sample(data: Bytes) -> bytes:
    if len(data) <= SAMPLES * SAMPLE:
        return data.tobytes()
    step = len(data) // SAMPLES // 4 * 4  # in step with float32
    return b"".join(data[at : at + SAMPLE].tobytes() for at in range(0, SAMPLES * step, step))


def _smallest(data: bytes) -> tuple[int, int, int]:
    """Bytes, encoding and strategy of zlib. Weights have no repeats to be found, so that Huffman's code alone is
    smaller, and far quicker.
    """
    kinds = [(DEFLATED, zlib.Z_HUFFMAN_ONLY), (PLANES, zlib.Z_HUFFMAN_ONLY), (DEFLATED, zlib.Z_DEFAULT_STRATEGY)]
    return min((len(_deflated(data, *kind)), *kind) for kind in kinds)


def _deflated(data: bytes, encoding: int, strategy: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    parts = split(data) if encoding == PLANES else [data]
    return b"".join(packer.compress(part) + packer.flush(zlib.Z_PARTIAL_FLUSH) for part in parts) + packer.flush()
