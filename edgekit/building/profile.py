"""Profile: the calibration profile of a bundle, from what its model is fed and what it answers on the build's data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.building import representable
from edgekit.building.binning import Array, bins
from edgekit.building.representable import Held
from edgekit.data.dataset import Dataset
from edgekit.model import Model
from edgekit_runtime.compare import Outputs, judged
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec
from edgekit_watch import calibration
from edgekit_watch.calibration import MOST_NAME, MOST_TENSORS, Spread

SAMPLES = 256
LEAST_SAMPLES = 30
"""Of fewer there are no bins."""
BINS, LEAST_BINS = 10, 3
INPUTS_A_BIN, ANSWERS_A_BIN = 10, 40
"""Samples for each bin: with so many, an index of data that have not moved stays below 0.1."""
USUAL = 0.01
"""Of the build's own data beyond a range: then that is no news on a device."""
NEARLY_ONE = 0.1
"""Scores that add up to 1, as far as 8 bits can tell, are probabilities."""


@dataclass
class Watch:
    """What was seen of a tensor. ``low`` and ``high``: its least and greatest number; ``axis``: of class scores."""

    axis: int | None = None
    low: float = np.inf
    high: float = -np.inf
    values: list[Array] = field(default_factory=list)
    details: list[Array] = field(default_factory=list)
    answers: list[Array] = field(default_factory=list)

    def see(self, array: Array, turn: int) -> None:
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else np.empty(0)
        self.low, self.high = min(self.low, finite.min(initial=np.inf)), max(self.high, finite.max(initial=-np.inf))
        found = calibration.looks(array, turn)
        self.values.append(found["input"])
        self.details.append(found["detail"])
        if self.axis is not None and array.shape[self.axis] > 1:
            self.answers.append(calibration.answers(array, self.axis, turn))

    def ends(self, low: float, high: float) -> tuple[float, float] | tuple[None, None]:
        """The same; none where there is no range, or where much is beyond it by right."""
        values = np.concatenate(self.values)
        beyond = np.count_nonzero((values < low) | (values > high))
        return (float(low), float(high)) if low < high < np.inf and beyond <= USUAL * values.size else (None, None)


@np.errstate(all="ignore")
def inputs(session: Session, model: Model, samples: Dataset, count: int) -> dict[str, Spread]:
    """What it is fed, for SAMPLES of ``count`` calibration samples. Raises: DataError, EngineError."""
    specs = _known(session.interface.inputs)
    watches = {spec.name: Watch() for spec in specs}
    for turn, sample in enumerate(samples.at(_numbers(count))):
        feeds = session.interface.feeds(sample.inputs)
        for spec in specs:
            watches[spec.name].see(feeds[spec.inner], turn)
    held = representable.inputs(model)
    return {spec.name: _of_input(watches[spec.name], spec, held.get(spec.inner)) for spec in specs}


@np.errstate(all="ignore")
def outputs(session: Session, model: Model, samples: Dataset, count: int) -> dict[str, Spread]:
    """What it answers, for SAMPLES of ``count`` evaluation samples: of those that it was trained on, as calibration
    samples often are, it is surer than it will be on a device. Raises: DataError, EngineError.
    """
    specs = _known(session.interface.outputs)
    watches = {spec.name: Watch() for spec in specs}
    for turn, sample in enumerate(samples.at(_numbers(count))):
        results = session.predict(sample.inputs)
        if not turn:
            _find_scores(watches, results, session)
        for name, watch in watches.items():
            watch.see(results[name], turn)
    held = representable.outputs(model)
    return {spec.name: _of_output(watches[spec.name], spec, held.get(spec.inner)) for spec in specs}


def _numbers(count: int) -> list[int]:
    """From all along the data."""
    found: list[int] = np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).astype(int)).tolist()
    return found


def _known(specs: Iterable[TensorSpec]) -> list[TensorSpec]:
    """Those that there is room for, by names that a window can have."""
    return [spec for spec in specs if 0 < len(spec.name.encode()) <= MOST_NAME and spec.name.isprintable()][
        :MOST_TENSORS
    ]


def _find_scores(watches: dict[str, Watch], results: Outputs, session: Session) -> None:
    """Float outputs of which the greatest number counts, or a distribution."""
    for name, how in judged(results, session.interface.agreement):
        array = results[name]
        if name in watches and how.by in ("top1", "kl") and array.dtype.kind == "f" and array.shape[how.axis] > 1:
            watches[name].axis = how.axis


def _of_input(watch: Watch, spec: TensorSpec, held: Held | None) -> Spread:
    """What a quantizer rounds to its ends is not clipped."""
    most = _bins(watch.values, INPUTS_A_BIN)
    spread = {
        kind: bins(np.concatenate(each), most)
        for kind, each in (("input", watch.values), ("detail", watch.details))
        if most and sum(map(np.size, each))
    }
    if not spec.dtype.startswith("float"):
        return Spread(spread)
    ends = (held.low - held.step / 2, held.high + held.step / 2) if held else (watch.low, watch.high)
    return Spread(spread, *watch.ends(*ends))


def _of_output(watch: Watch, spec: TensorSpec, held: Held | None) -> Spread:
    """What stands at an end of the integers that it comes from may be cut there; probabilities stand there by right."""
    rows, most = watch.answers, _bins(watch.answers, ANSWERS_A_BIN)
    softmax = bool(rows) and not all(map(_are_probabilities, rows))
    by_right = (rows and not softmax) or (held and held.bounded) or not spec.dtype.startswith("float")
    ends = (held.low + held.step / 2, held.high - held.step / 2) if held else (watch.low, watch.high)
    found = [calibration.certainty(each, softmax=softmax) for each in rows]
    kinds = ("confidence", "entropy") if most else ()
    spread = {kind: bins(np.concatenate([each[kind] for each in found]), most) for kind in kinds}
    low, high = (None, None) if by_right else watch.ends(*ends)
    return Spread(spread, low, high, -1 if watch.axis is None else watch.axis, softmax)


def _bins(seen: Sequence[Array], samples_a_bin: int) -> int:
    return 0 if len(seen) < LEAST_SAMPLES else max(LEAST_BINS, min(BINS, len(seen) // samples_a_bin))


def _are_probabilities(rows: Array) -> bool:
    return bool((rows >= 0).all() and (np.abs(rows.sum(axis=-1) - 1) <= NEARLY_ONE).all())
