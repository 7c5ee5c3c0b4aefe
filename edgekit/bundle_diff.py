"""What changes from one bundle to another: what they say of themselves, sizes, what their builds measured, and how both
behave here, beside each other, on the golden vectors that they carry.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgekit.errors import BundleError
from edgekit_runtime import fields, golden, manifest
from edgekit_runtime.bundle import GOLDEN_TYPE, MODEL_TYPE, Bundle
from edgekit_runtime.compare import max_abs_error, same_answer
from edgekit_runtime.golden import Vector
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec

ELSEWHERE = ("schema_version", "verdict", "proof", "provenance.layers")
"""Parts of a manifest that are shown in another way, or that follow from others."""
ROUNDS = 30
LONGEST_S = 2.0
"""Timing stops after the first round that ends later; bundles of others may hold any number of vectors."""

Clock = Callable[[], int]


@dataclass(frozen=True)
class Change:
    """A path in the manifest at which two bundles have not the same JSON value; None where one has nothing."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Sizes:
    """Bytes of a part: ``model``, ``golden``, ``calibration`` or ``twin``."""

    part: str
    a: int
    b: int


@dataclass(frozen=True)
class Built:
    """What the build measured of the candidate that it chose: on its host, on its evaluation data."""

    name: str
    engine: str
    size_bytes: int
    accuracy: float | None
    agreement: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Agreement:
    """How B answers where A answers, on the golden vectors of one bundle (``vectors_of``: a, b).

    ``agreement`` is the share of equal answers; ``max_abs_error`` is in the outputs' own unit, infinite for outputs of
    another shape or NaN; JSON has null there.
    """

    vectors_of: str
    vectors: int
    agreement: float
    max_abs_error: float


@dataclass(frozen=True)
class Timing:
    """Both on this host, turn by turn. ``ratio``: what B needs for all vectors over what A needs, the median of the
    rounds; ``ratio_quartiles`` are those of the rounds. ``p50_ms`` of single calls.
    """

    rounds: int
    a_p50_ms: float
    b_p50_ms: float
    ratio: float
    ratio_quartiles: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """From bundle A to bundle B. ``measured`` is as measured at build, and None for a bundle that says nothing of it.
    ``foreign``: which of the two are for another architecture than this host's; ``timing`` says nothing of it there.
    """

    changes: tuple[Change, ...]
    sizes: tuple[Sizes, ...]
    measured: tuple[Built | None, Built | None]
    behaviour: tuple[Agreement, ...]
    timing: Timing
    foreign: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        a, b = (asdict(built) if built else None for built in self.measured)
        return {
            "changes": [asdict(change) for change in self.changes],
            "sizes": [asdict(sizes) for sizes in self.sizes],
            "measured": {"a": a, "b": b},
            "behaviour": [_finite(asdict(each)) for each in self.behaviour],
            "timing": {**asdict(self.timing), "ratio_quartiles": list(self.timing.ratio_quartiles)},
            "foreign": list(self.foreign),
        }


def _finite(document: dict[str, Any]) -> dict[str, Any]:
    error = document["max_abs_error"]
    return {**document, "max_abs_error": error if math.isfinite(error) else None}


def diff(a: Bundle, b: Bundle, clock_ns: Clock = time.perf_counter_ns) -> Difference:
    """Raises: BundleError when they take other inputs or hold no golden vectors, EngineError."""
    check_inputs(a, b)
    vectors = {"a": _vectors(a), "b": _vectors(b)}
    with _session(a) as first, _session(b) as second:
        behaviour = tuple(_agreement(owner, first, second, each) for owner, each in vectors.items())
        times = timing((first, second), [*vectors["a"], *vectors["b"]], clock_ns)
    foreign = tuple(side for side, each in (("a", a), ("b", b)) if each.manifest.arch != platform.machine())
    return Difference(changes(a, b), sizes(a, b), (built(a), built(b)), behaviour, times, foreign)


def check_inputs(a: Bundle, b: Bundle) -> None:
    """Raises: BundleError when what one takes, the other does not."""
    ours, theirs = a.manifest.interface.accepts, b.manifest.interface.accepts
    if ours.keys() != theirs.keys() or not all(_alike(ours[name], theirs[name]) for name in ours):
        raise BundleError(
            f"{a.root} and {b.root}: take other inputs ({_words(ours.values())}; {_words(theirs.values())})",
            "compare bundles of one app",
        )


def _alike(ours: TensorSpec, theirs: TensorSpec) -> bool:
    """Whether there is an array that fits both."""
    sizes = zip(ours.shape, theirs.shape, strict=False)
    alike = all(None in pair or pair[0] == pair[1] for pair in sizes)
    return ours.dtype == theirs.dtype and len(ours.shape) == len(theirs.shape) and alike


def _words(specs: Any) -> str:
    return ", ".join(map(str, specs))


def changes(a: Bundle, b: Bundle) -> tuple[Change, ...]:
    """What the manifests say differently, but for what was measured."""
    ours, theirs = dict(_leaves(_document(a))), dict(_leaves(_document(b)))
    paths = [path for path in {**ours, **theirs} if not path.startswith(ELSEWHERE)]
    return tuple(Change(p, ours.get(p), theirs.get(p)) for p in paths if ours.get(p) != theirs.get(p))


def _document(bundle: Bundle) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(manifest.dump(bundle.manifest))
    return document


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths like ``engines.0.version``; a list of plain values is one value."""
    inner = value if isinstance(value, dict) else dict(enumerate(value)) if _of_tables(value) else None
    if inner is None:
        yield path, value
    for key, each in (inner or {}).items():
        yield from _leaves(each, f"{path}.{key}" if path else str(key))


def _of_tables(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


def sizes(a: Bundle, b: Bundle) -> tuple[Sizes, ...]:
    ours, theirs = _sizes(a), _sizes(b)
    return tuple(Sizes(part, ours.get(part, 0), theirs.get(part, 0)) for part in {**ours, **theirs})


def _sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes by what a layer is, the third word of its media type."""
    found: dict[str, int] = {}
    for layer in bundle.layers:
        part = layer.media_type.partition("edgekit.")[2].partition(".")[0] or layer.media_type
        found[part] = found.get(part, 0) + layer.size
    return found


def built(bundle: Bundle) -> Built | None:
    """What the verdict in a bundle says of the candidate that is in it. Raises: BundleError."""
    try:
        candidates = map(fields.table, fields.items(bundle.manifest.verdict.get("candidates", [])))
        return next((_built(each) for each in candidates if each.get("chosen") is True), None)
    except (ValueError, KeyError) as error:
        raise BundleError(f"{bundle.root}: its verdict cannot be read: {error}", "build it again") from error


def _built(document: dict[str, Any]) -> Built:
    latency, accuracy = fields.table(document["latency_ms"]), document["accuracy"]
    return Built(
        fields.text(document["name"]),
        fields.text(document["engine"]),
        fields.count(document["size_bytes"]),
        None if accuracy is None else fields.number(accuracy),
        fields.number(document["agreement"]),
        fields.number(latency["p50"]),
        fields.number(latency["p95"]),
    )


def _vectors(bundle: Bundle) -> list[Vector]:
    vectors = golden.parse(bundle.read(bundle.layer(GOLDEN_TYPE)))
    if not vectors:
        raise BundleError(f"{bundle.root}: has no golden vectors", "build it again")
    return vectors


def _session(bundle: Bundle) -> Session:
    """As on its device, but with no more threads than this host has cores."""
    cores = os.cpu_count() or 1
    needs = [replace(need, threads=min(need.threads, cores)) for need in bundle.manifest.engines]
    return Session(bundle.read(bundle.layer(MODEL_TYPE)), bundle.manifest.interface, needs)


def _agreement(owner: str, a: Session, b: Session, vectors: Sequence[Vector]) -> Agreement:
    pairs = [(a.predict(vector.inputs), b.predict(vector.inputs)) for vector in vectors]
    declared = a.interface.agreement
    same = sum(same_answer(want, have, declared) for want, have in pairs) / len(pairs)
    return Agreement(owner, len(pairs), same, max(max_abs_error(want, have, declared) for want, have in pairs))


def timing(sessions: tuple[Session, Session], vectors: Sequence[Vector], clock_ns: Clock) -> Timing:
    """Calls take turns, so that what disturbs this host disturbs both; who begins changes from round to round."""
    taken: list[list[list[int]]] = [[], []]
    end = clock_ns() + int(LONGEST_S * 1e9)
    while len(taken[0]) < ROUNDS and (not taken[0] or clock_ns() < end):
        order = (0, 1) if len(taken[0]) % 2 == 0 else (1, 0)
        for each in taken:
            each.append([])
        for vector in vectors:
            for index in order:
                started = clock_ns()
                sessions[index].predict(vector.inputs)
                taken[index][-1].append(clock_ns() - started)
    return _summary(np.asarray(taken, np.float64))


def _summary(times: np.ndarray[Any, Any]) -> Timing:
    """Of nanoseconds [2, rounds, calls]."""
    totals = np.maximum(times.sum(axis=2), 1)
    low, middle, high = (round(float(ratio), 4) for ratio in np.percentile(totals[1] / totals[0], [25, 50, 75]))
    a, b = (round(float(np.median(each)) / 1e6, 4) for each in times)
    return Timing(times.shape[1], a, b, middle, (low, high))
