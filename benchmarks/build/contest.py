"""Contest: all entries on the same engines and samples, in turns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.build.entries import Entry, engines_of
from edgekit import anatomy_onnx, guard, unfused
from edgekit.anatomy import FLOATS
from edgekit.budget import Budget
from edgekit.dataset import Dataset
from edgekit.errors import EdgekitError
from edgekit.measure import Latency, Measured, Tally, measure
from edgekit.target import Target
from edgekit_runtime.compare import Outputs, same_answer
from edgekit_runtime.session import Session

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
    latency_ms: Latency = Latency(0, 0, 0, 0)
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
        self.session, self.outputs = session, list[Outputs]()

    def predict(self, inputs: dict[str, Any]) -> Outputs:
        outputs = self.session.predict(inputs)
        self.outputs.append(outputs)
        return outputs


def hold(entries: Sequence[Entry], samples: Dataset, profile: Target, budget: Budget) -> list[Row]:
    """Rows in the order of the entries, the first of which is the float baseline."""
    rows = [Row(entry, refused=(entry.error,)) for entry in entries]
    with ExitStack() as stack:
        sessions = dict[int, Remembering]()
        for number, entry in enumerate(entries):
            try:
                if not entry.error:
                    sessions[number] = Remembering(stack.enter_context(_session(entry, samples, profile)))
            except EdgekitError as error:
                rows[number] = Row(entry, refused=(error.message,))
        tallies = measure(list(sessions.values()), samples)  # type: ignore[arg-type]
        labels = [sample.label for sample in samples]
        for (number, session), tally in zip(sessions.items(), tallies, strict=True):
            good = [_good(*each) for each in zip(labels, sessions[0].outputs, session.outputs, strict=True)]
            rows[number] = _row(entries[number], session.session.engine.name, tally, np.array(good))
    return [_judged(row, rows[0], budget) for row in rows]


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


def _row(entry: Entry, engine: str, tally: Tally, good: NDArray[Any]) -> Row:
    return Row(
        entry,
        engine,
        tally.accuracy,
        tally.agree / tally.samples,
        len(entry.model),
        tally.latency_ms,
        unfused.COUNTERS[entry.format](entry.model).pairs,
        float_layers(entry.model) if entry.format == "onnx" else None,
        good=good,
    )


def float_layers(model: bytes) -> int:
    """Convolutions and matrix products that compute in float."""
    return sum(layer.op in WEIGHTED and layer.precision in FLOATS for layer in anatomy_onnx.read(model).layers)


def _judged(row: Row, baseline: Row, budget: Budget) -> Row:
    if not row.engine:
        return row
    lines = guard.judge(_measured(row), _measured(baseline), budget, comparable_host=False)
    return Row(**{**vars(row), "refused": tuple(lines)})


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
