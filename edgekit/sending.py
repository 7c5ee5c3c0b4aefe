"""Sending: what a device lacks of a bundle, as frames in one stream that it takes in while it comes.

The device says what it lacks, what it kept of a push that was cut, and which of its blobs are similar; the rest is
decided here (see ``delta``), piece by piece and not long before it goes.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

from edgekit import copies
from edgekit.delta import Base, Bytes
from edgekit.device import Conversation
from edgekit.framing import Framing, contents
from edgekit.transports.feed import SLICE
from edgekit_runtime import similar
from edgekit_runtime.bundle import IMAGE_TYPE, Descriptor, blob_path
from edgekit_runtime.patch import CHUNK
from edgekit_runtime.receiving import TOLD, told_of

WORK_S = 600.0
"""For a device to take in, to prove and to switch to what has come; its proof alone may take 280 seconds."""
TELL_S, FILLED_S, MARKS = 2.0, 0.5, 5
FAST, BEGUN, SURE = 12e6, 1 << 19, 1 << 21
"""Bytes a second from which on deflating costs more time than it saves; known by those between two numbers of bytes,
for the first few go into buffers, however slow the link is, and wait for a program that is only starting."""


@dataclass(frozen=True)
class Load:
    """A bundle's folder and blobs, the image first, and what the device is told of it: digest, signature, …

    With ``live`` among it the device proves it and switches to it, too.
    """

    root: Path
    blobs: tuple[Descriptor, ...]
    order: Mapping[str, Any]

    def path(self, blob: Descriptor) -> Path:
        return blob_path(self.root, blob.digest)


@dataclass(frozen=True)
class Sent:
    """The bytes that went over, and the release as the device has it now."""

    size: int
    release: dict[str, Any]


def send(load: Load, device: Conversation, tell: Callable[[str], None]) -> Sent:
    """Send what the device lacks, and have it do what the order says; it has told what it is already.

    Raises: BundleError and its kin, DeviceError, TransportError. What a cut left, the next push goes on with.
    """
    answer = device.ask({"blobs": [blob.as_dict() for blob in load.blobs], "known": copies.known()})
    bases = _bases(answer["bases"])
    lacking = [Part.of(blob, load, answer["kept"]) for blob in load.blobs if blob.digest in answer["missing"]]
    parts = [{**part.blob.as_dict(), "kept": part.kept} for part in lacking]
    order = {**load.order, "blobs": parts, "bases": [each.digest for each in bases]}
    meter = Meter(sum(part.blob.size - part.kept for part in lacking), tell)
    frames = chain(_frames(lacking, bases, meter), _proving(load, tell))
    release = device.ask(order, frames, WORK_S)
    copies.remember(load.path(blob) for blob in load.blobs)
    return Sent(meter.sent, release)


@dataclass(frozen=True)
class Part:
    """A blob that the device lacks, its file, and how many bytes of it from the start the device has kept."""

    blob: Descriptor
    path: Path
    kept: int

    @staticmethod
    def of(blob: Descriptor, load: Load, told: Sequence[Mapping[str, Any]]) -> Part:
        path, found = load.path(blob), [each for each in told if each["digest"] == blob.digest]
        return Part(blob, path, _known_again(contents(path), found[0]["size"], found[0]["chunks"]) if found else 0)

    @property
    def name(self) -> str:
        return "image" if self.blob.media_type == IMAGE_TYPE else self.blob.media_type.split(".")[2]


def _known_again(data: Bytes, size: int, chunks: str) -> int:
    """How many bytes on the device, chunk by chunk, are the right ones."""
    good = 0
    for number in range(0, len(chunks), 2 * TOLD):
        end = min(good + CHUNK, size, len(data))
        if told_of(data[good:end].tobytes()) != chunks[number : number + 2 * TOLD]:
            break
        good = end
    return good


def _bases(told: Sequence[Mapping[str, Any]]) -> tuple[Base, ...]:
    """Those of which something is known here: a copy, or the sums that the device gave."""
    found: list[Base] = []
    for each in told:
        digest, size, number = each["digest"], each["size"], len(found) + 1
        copy = None if "sums" in each else copies.opened(digest)
        if copy is not None:
            found.append(Base(number, size, similar.block_of(size), copy.sums, copy.data, digest))
        elif "sums" in each:
            found.append(Base(number, size, each["block"], base64.b85decode(each["sums"]), digest=digest))
    return tuple(found)


def _proving(load: Load, tell: Callable[[str], None]) -> Iterator[bytes]:
    """Nothing more goes over; what the device is at from then on is told."""
    if load.order.get("live"):
        tell("proving on the device")
    yield from ()


def _frames(parts: Sequence[Part], bases: tuple[Base, ...], meter: Meter) -> Iterator[bytes]:
    for part in parts:
        meter.begin(part)
        framing = Framing(part.path, part.kept, bases if part.blob.size >= similar.LEAST else ())
        for length, frame in framing.frames(lambda: meter.link_is_fast):
            for start in range(0, len(frame), SLICE):
                piece, end = frame[start : start + SLICE], min(start + SLICE, len(frame))
                meter.go()
                yield piece
                meter.add(length * end // len(frame) - length * start // len(frame), len(piece))


@dataclass
class Meter:
    """Tells how it goes: ``total`` bytes are to come about, for which ``sent`` have gone over so far."""

    total: int
    tell: Callable[[str], None]
    sent: int = 0
    _done: int = 0
    _name: str = ""
    _told: float = 0.0
    _marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=MARKS))
    _last: float = 0.0
    _going_s: float = 0.0

    @property
    def link_is_fast(self) -> bool:
        return self.sent > SURE and self.sent - BEGUN > FAST * self._going_s

    def begin(self, part: Part) -> None:
        if not self._name:
            self._told = monotonic()
        self._name = part.name
        self.tell(f"sending {part.name}, {part.blob.size} bytes")

    def go(self) -> None:
        self._last = monotonic()

    def add(self, done: int, sent: int) -> None:
        self._done, self.sent, now = self._done + done, self.sent + sent, monotonic()
        if self.sent > BEGUN:
            self._going_s += now - self._last
        if now - self._told >= (TELL_S if self._marks else FILLED_S) and self._done < self.total:
            self._tell(now)

    def _tell(self, now: float) -> None:
        """By the last few seconds: the first bytes only fill what lies between here and a slow link."""
        if self._marks:
            since, done, sent = self._marks[0]
            left = (now - since) * (self.total - self._done) / (self._done - done)
            share, rate = self._done / self.total, (self.sent - sent) / (now - since) / 1024
            self.tell(f"sending {self._name}: {share:.0%}, {rate:.0f} KiB/s, {left:.0f} s left")
        self._told = now
        self._marks.append((now, self._done, self.sent))
