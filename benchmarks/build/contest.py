"""Contest: all entries on the same engines and samples, in turns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.build.entries import Entry, engines_of
from edgekit import anatomy_onnx, unfused
from edgekit.anatomy import FLOATS
from edgekit.budget import Budget
from edgekit.building import guard
from edgekit.building.latency import UNTIMED, Latency, latency_of
from edgekit.building.measure import Measured, Tally, evaluate
from edgekit.data.dataset import Dataset
from edgekit.errors import EdgekitError
from edgekit.target import Target
from edgekit_runtime.compare import Outputs, same_answer
from edgekit_runtime.session import Session
from edgekit_runtime.timing import in_turns

ROUNDS, INPUTS = 5, 16
"""How often every model is loaded anew for its latency, and on how many samples it is timed: where a model comes to lie
in memory makes a difference that more calls do not even out."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Row:
    """An entry as measured. ``good``: by sample, whether it was right, or without labels as the float model says.

    ``refused``: the lines of the budget that it breaks. ``pairs``: ways to float and back in the midst of the graph
    that its engine executes. ``float_layers``: weighted ones that compute in float, None but for ONNX.
    """

    entry: Entry
    engine: str = ""
    accuracy: float | None = None
    agreement: float = 0.0
    size_bytes: int = 0
    latency_ms: Latency = UNTIMED
    pairs: int | None = None
    float_layers: int | None = None
    refused: tuple[str, ...] = ()
    good: NDArray[Any] = field(default_factory=lambda: np.array([], bool))

    @property
    def share(self) -> float:
        """Accuracy, or agreement where there are no labels."""
        return self.agreement if self.accuracy is None else self.accuracy

    def as_dict(self) -> dict[str, Any]:
        own = {key: value for key, value in vars(self).items() if key not in ("entry", "good", "latency_ms")}
        told = {key: getattr(self.entry, key) for key in ("name", "format", "wall_s", "cpu_s", "seconds", "error")}
        inner = {key: value for key, value in self.entry.more.items() if key != "interface"}
        return {**told, **own, "latency_ms": vars(self.latency_ms), "told": inner}


class Remembering:
    """A session that keeps what it gave."""

    def __init__(self, session: Session) -> None:
        self.session, self.interface, self.outputs = session, session.interface, list[Outputs]()

    def predict(self, inputs: dict[str, Any]) -> Outputs:
        outputs = self.session.predict(inputs)
        self.outputs.append(outputs)
        return outputs


def hold(entries: Sequence[Entry], samples: Dataset, profile: Target, budget: Budget) -> list[Row]:
    """Rows in the order of the entries, the first of which is the float baseline."""
    rows, sound = [Row(entry, refused=(entry.error,)) for entry in entries], list[int]()
    with ExitStack() as stack:
        sessions = list[Remembering]()
        for number, entry in enumerate(entries):
            try:
                if not entry.error:
                    sessions.append(Remembering(stack.enter_context(_session(entry, samples, profile))))
                    sound.append(number)
            except EdgekitError as error:
                rows[number] = Row(entry, refused=(error.message,))
        tallies = evaluate(sessions, samples)  # type: ignore[arg-type]
    labels = [sample.label for sample in samples]
    latencies = _latencies([entries[number] for number in sound], samples, profile)
    for number, session, tally, latency in zip(sound, sessions, tallies, latencies, strict=True):
        good = [_good(*each) for each in zip(labels, sessions[0].outputs, session.outputs, strict=True)]
        rows[number] = replace(_row(entries[number], session.session, tally, latency), good=np.array(good))
    return [_judged(row, rows[0], budget) for row in rows]


def _latencies(entries: Sequence[Entry], samples: Dataset, profile: Target) -> list[Latency]:
    """Medians over rounds of the medians and the 95th percentiles; the interval is that of the rounds' medians."""
    first, found = [sample.inputs for sample in islice(samples, INPUTS)], [list[Latency]() for _ in entries]
    for number in range(ROUNDS):
        start = number * len(entries) // ROUNDS
        order = [*range(start, len(entries)), *range(start)]
        with ExitStack() as stack:
            sessions = [stack.enter_context(_session(entries[place], samples, profile)) for place in order]
            named = dict(zip(map(str, order), sessions, strict=True))
            for place, times in in_turns(named, dict.fromkeys(named, first)).items():
                if isinstance(times, EdgekitError):
                    raise times
                found[int(place)].append(latency_of(times))
    return [_over_rounds(each) for each in found]


def _over_rounds(each: Sequence[Latency]) -> Latency:
    medians = sorted(one.p50 for one in each)
    p95 = sorted(one.p95 for one in each)
    return Latency(medians[len(each) // 2], p95[len(each) // 2], medians[0], medians[-1])


def _session(entry: Entry, samples: Dataset, profile: Target) -> Session:
    """As the target runs it, and proven to take the samples. Raises: EngineError."""
    assert entry.interface is not None
    needs = engines_of(profile, entry.format, min(profile.threads, os.cpu_count() or 1))
    session = Session(entry.model, entry.interface, needs)
    session.predict(next(iter(samples)).inputs)
    return session


def _good(label: int | None, want: Outputs, have: Outputs) -> bool:
    if label is None:
        return same_answer(want, have)
    return int(next(iter(have.values())).argmax()) == label


def _row(entry: Entry, session: Session, tally: Tally, latency: Latency) -> Row:
    return Row(
        entry,
        session.engine.name,
        tally.accuracy,
        tally.agree / tally.samples,
        len(entry.model),
        latency,
        unfused.COUNTERS[entry.format](entry.model).pairs,
        float_layers(entry.model) if entry.format == "onnx" else None,
    )


def float_layers(model: bytes) -> int:
    """Convolutions and matrix products that compute in float."""
    return sum(layer.op in WEIGHTED and layer.precision in FLOATS for layer in anatomy_onnx.read(model).layers)


def _judged(row: Row, baseline: Row, budget: Budget) -> Row:
    if not row.engine:
        return row
    lines = guard.judge(_measured(row), _measured(baseline), budget, comparable_host=False)
    return replace(row, refused=tuple(lines))


def _measured(row: Row) -> Measured:
    return Measured(
        name=row.entry.name,
        format=row.entry.format,
        engine=row.engine,
        precision="",
        size_bytes=row.size_bytes,
        samples=len(row.good),
        agreement=row.agreement,
        accuracy=row.accuracy,
        max_abs_error=0.0,
        latency_ms=row.latency_ms,
    )
