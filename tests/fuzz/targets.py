"""Targets: parsers of what strangers send, each with what it may raise, and inputs that are whole to begin with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from types import ModuleType

import numpy as np

from edgekit_runtime import golden, manifest, patch
from edgekit_runtime.errors import BundleError, EdgekitError, InvalidInput
from edgekit_runtime.golden import Vector
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits
from edgekit_server import oip, tfserving
from edgekit_server.http import Refused
from edgekit_server.reading import Reading
from edgekit_train import letter_file, task, update
from edgekit_train.compression import Compression, compress
from edgekit_train.letters import Confirmed, Masked, Shares
from edgekit_train.task import Task
from edgekit_train.update import Update
from tests.runtime.server import mutations, requests
from tests.runtime.server.requests import SMALL

MOST = 4096
ALL = 0xFFFF
SOURCE = bytes(range(256)) * 32
OUTPUTS = {"y": np.zeros((2, 2), np.float32), "z": np.zeros(2, np.int64)}
ENGINES = (EngineNeed("litert", ">=1", ("cpu",), 2),)
MANIFEST = Manifest("m", "1", 1, "pi", "aarch64", "onnx", "int8", ENGINES, SMALL, ProofLimits(4, 0.1, 0.9))


@dataclass(frozen=True)
class Target:
    """``take`` raises for a mistake of ours only."""

    take: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


def read(data: bytes) -> None:
    """A request off a connection, in pieces of a size that the first byte says."""
    size, data = 1 + 16 * data[:1][0] if data else 1, data[1:]
    held: list[int] = []
    reading, scratch = Reading(lambda head: MOST, held.append, "here"), memoryview(bytearray(1 << 12))
    try:
        while data and not reading.gathered:
            space = reading.space(scratch)
            count = min(len(space), size, len(data))
            space[:count], data = data[:count], data[count:]
            reading.took(space, count)
        while reading.gathered and reading.request is None:
            reading.step()
    except Refused as refused:
        _fits(refused.message, 400 <= refused.status < 600)
    if reading.request and len(reading.request.body) > MOST:
        raise AssertionError("a body beyond its limit")


def _infer(dialect: ModuleType, data: bytes) -> None:
    """The first two bytes say how much of the rest is JSON."""
    length, body = int.from_bytes(data[:2], "big"), data[2:]
    try:
        asked = dialect.decode(memoryview(body), None if length == ALL else length, SMALL)
        SMALL.feeds(asked.feeds)
    except InvalidInput as error:
        return _fits(str(error))
    with suppress(InvalidInput):
        sum(map(len, dialect.encode(asked, OUTPUTS, "m", "1").parts))
    return None


def infer(data: bytes) -> None:
    _infer(oip, data)


def predict(data: bytes) -> None:
    _infer(tfserving, ALL.to_bytes(2, "big") + data)


def bundle(data: bytes) -> None:
    """A manifest; what is one may be written and read again."""
    try:
        found = manifest.parse(data)
    except BundleError as error:
        return _fits(str(error))
    if manifest.parse(manifest.dump(found)) != found:
        raise AssertionError("read again, it is another")
    return None


def vectors(data: bytes) -> None:
    with suppress(EdgekitError):
        golden.parse(data)


def frames(data: bytes) -> None:
    """A patch of one blob by another; the first two bytes say how much is lacking."""
    lacks, stream = int.from_bytes(data[:2], "big"), BytesIO(data[2:])
    with tempfile.TemporaryFile() as file:
        try:
            patch.apply(stream, [BytesIO(SOURCE)], file.fileno(), lacks)
        except BundleError as error:
            _fits(str(error))
        if os.fstat(file.fileno()).st_size > lacks:
            raise AssertionError("more than was lacking")


def asked(data: bytes) -> None:
    """A task of a round; what is one may be written and read again."""
    try:
        found = task.parse(data, MOST)
    except ValueError as error:
        return _fits(str(error))
    if task.parse(task.dump(found), 64 * MOST) != found:
        raise AssertionError("read again, it is another")
    return None


def learned(data: bytes) -> None:
    """An update, which does not unpack to more than may be."""
    try:
        found = update.parse(data, MOST)
    except ValueError as error:
        return _fits(str(error))
    if sum(array.nbytes for array in found.delta.values()) > MOST:
        raise AssertionError("more numbers than may be")
    if update.parse(update.dump(found), 64 * MOST) != found:
        raise AssertionError("read again, it is another")
    return None


def letter(data: bytes) -> None:
    """One of a masked sum's."""
    try:
        letter_file.dump(letter_file.parse(data, MOST))
    except ValueError as error:
        _fits(str(error))


def _fits(message: str, fine: bool = True) -> None:
    """What is wrong is told in one line that is not long."""
    if not fine or not message.isprintable() or len(message) > 1000:
        raise AssertionError(f"told so: {message[:2000]!r}")


def _requests() -> Iterator[bytes]:
    for whole in mutations.WHOLE:
        yield from (b"\xff" + whole, b"\x00" + whole)


def _tensors() -> Iterator[bytes]:
    x = np.arange(6, dtype=np.int8).tobytes()
    for head in (requests.TRITONCLIENT, requests.ALL_OPTIONS, requests.JSON_OUT, requests.PERF_ANALYZER):
        for old, new in (
            (b"3,96,96", b"3"),
            (b"[1,3]", b"[2,3]"),
            (b"110592", b"6"),
            (b"FP32", b"INT8"),
            (b'"x"', b'"a"'),
        ):
            head = head.replace(old, new)
        yield len(head).to_bytes(2, "big") + head + x
    yield ALL.to_bytes(2, "big") + bytes(requests.of_json(requests.tensor()))
    yield bytes(2) + x


def _samples() -> Iterator[bytes]:
    for document in (
        {"instances": [[1, 2, 3]]},
        {"inputs": {"a": [[1, 2, 3]]}},
        {"instances": [{"a": [1, 2, 3]}], "signature_name": ""},
    ):
        yield bytes(requests.of_json(document))


def _vectors() -> Iterator[bytes]:
    yield golden.dump([Vector({"a": np.ones((1, 3), np.int8)}, OUTPUTS, OUTPUTS)])


def _frames() -> Iterator[bytes]:
    deflated = patch.zlib.compressobj(wbits=-15)
    packed = deflated.compress(bytes(64)) + deflated.flush()
    plain = patch.Frame(patch.PLAIN, 0, 5, residual=5).pack() + b"abcde"
    copied = patch.Frame(patch.NOTHING, 1, 100, 7).pack()
    added = patch.Frame(patch.PLANES, 1, 64, 3, len(packed)).pack() + packed
    yield (5 + 100 + 64).to_bytes(2, "big") + plain + copied + added


WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}
ROUND = "0a" * 16


def _tasks() -> Iterator[bytes]:
    config: dict[str, float | int | str] = {"epochs": 3, "rate": 0.5, "way": "new"}
    whole = Task("m", "sha256:0", ROUND, "pi", "head", config, WEIGHTS, 1.0, 0.5, Compression(0.1))
    yield task.dump(whole)
    yield task.dump(Task("m", "sha256:0", ROUND, "pi"))


def _updates() -> Iterator[bytes]:
    for how in (Compression(), Compression(0.4), Compression(0.4, int8=False), Compression(int8=False)):
        done = compress(WEIGHTS, how, {}, np.random.default_rng(0))
        yield update.dump(Update("m", "sha256:0", ROUND, "pi", 7, done.delta, {"loss": 0.5}), done.packed)


def _letters() -> Iterator[bytes]:
    yield letter_file.dump(Masked(ROUND, "pi", np.arange(4, dtype=np.uint32)))
    yield letter_file.dump(Shares(ROUND, "pi", {"pj": b"sealed"}, b"signed"))
    yield letter_file.dump(Confirmed(ROUND, "pi", b"signed"))


TARGETS = {
    "http": Target(read, _requests),
    "infer": Target(infer, _tensors),
    "predict": Target(predict, _samples),
    "manifest": Target(bundle, lambda: iter([manifest.dump(MANIFEST)])),
    "vectors": Target(vectors, _vectors),
    "patch": Target(frames, _frames),
    "task": Target(asked, _tasks),
    "update": Target(learned, _updates),
    "letter": Target(letter, _letters),
}
