"""Suspicion: what is probably wrong with calibration and evaluation data, from a census of each.

What is certain is refused; what is likely is told, in one line that says what to do. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.data.census import Census, Column
from edgekit.errors import DataError
from edgekit_runtime.preprocess import Preprocess

SHOWN = 8
NOISE_SHARE = 0.1
REPEATED_SHARE = 0.1
CONSTANT_SHARE = 0.05
SCALES = 20.0
"""How many times as large values may be in one set as in the other. 1 against 255, or 127, is what is looked for."""
NEGATIVE_SHARE = 0.25
"""The share of negative values in one set, with none in the other, that tells another normalization."""
SMALLEST_SPAN, LARGEST_VALUE = 0.02, 300.0
"""Pixels of a model's input span at least 1, and reach 255 at most."""


def check_apart(calibration: Census, evaluation: Census) -> None:
    """Raises: DataError when evaluation samples are calibration samples, too: exactly, by their digests."""
    both = sorted(number for digest, number in evaluation.seen.items() if digest in calibration.seen)
    if not both:
        return
    if calibration.name == evaluation.name:
        hint = "split it: two .npz files, two folders, or a column split (calibration, evaluation) in labels.csv"
    else:
        hint = "take them out of one of the two: what int8 ranges were made from cannot measure them"
    which = ", ".join(map(str, both[:SHOWN])) + (", …" if len(both) > SHOWN else "")
    share = f"{len(both)} of {len(evaluation.seen)} different samples"
    raise DataError(f"evaluation data: {share} are in the calibration data, too (from 0: {which})", hint)


def suspicions(calibration: Census, evaluation: Census, preprocess: dict[str, Preprocess]) -> tuple[str, ...]:
    """What looks wrong, a line each; of each set alone, then of the two beside each other."""
    alone = [line for census in (calibration, evaluation) for line in _alone(census, preprocess)]
    names = [name for name in calibration.columns if name in evaluation.columns]
    beside = [line for n in names for line in _beside(n, calibration.columns[n], evaluation.columns[n])]
    return (*alone, *beside)


def _alone(census: Census, preprocess: dict[str, Preprocess]) -> Iterator[str]:
    where = f"{census.role} data"
    repeated = census.telling - len(census.seen)
    if repeated > REPEATED_SHARE * census.samples:
        yield f"{where}: {repeated} of {census.samples} samples repeat others: give as many different ones"
    for name, column in census.columns.items():
        for line in (*_content(column, census.samples), *_fed(name, column, preprocess.get(name))):
            yield f"{where}: input {name!r}: {line}"


def _content(column: Column, samples: int) -> Iterator[str]:
    pixels = column.colors > 0
    if column.noise >= NOISE_SHARE * samples and column.noise:
        yield (
            f"random noise? neighbouring pixels are unrelated in {column.noise} of {samples} images: "
            "give real samples, like those the device will see"
        )
    if (pixels or column.dtype.startswith("float")) and column.constant > CONSTANT_SHARE * samples:
        yield f"{column.constant} of {samples} samples have one value all over: give real samples"
    dead = [color for color in column.dead if color != 3]  # the fourth is often opacity
    if column.colors > 1 and dead and column.low != column.high:
        yield f"colour {dead[0]} of {column.colors} is the same in all pixels of all samples: are all colours read?"
    if column.colors > 1 and column.dtype == "uint8" and column.low != column.high == 1:
        yield "only 0 and 1 occur: were images of 0..1 cast to uint8? multiply them by 255 before"


def _fed(name: str, column: Column, step: Preprocess | None) -> Iterator[str]:
    """Pixels that preprocessing takes out of any range that a model could want."""
    if step is None or not column.colors or column.low == column.high:
        return
    span = (column.high - column.low) * step.scale / min(step.std)
    bounds = [(edge * step.scale - m) / s for edge in (column.low, column.high) for m, s in _colors(step)]
    made = f"{_number(min(bounds))} to {_number(max(bounds))} after preprocessing"
    if 0 < span < SMALLEST_SPAN:
        yield f"{_within(column)}, {made}: scaled twice? correct scale under [preprocess.{name}]"
    elif max(map(abs, bounds)) > LARGEST_VALUE:
        yield f"{_within(column)}, {made}: scale = {1 / 255!r} under [preprocess.{name}]?"


def _colors(step: Preprocess) -> list[tuple[float, float]]:
    """Mean and deviation of each colour."""
    count = max(len(step.mean), len(step.std))
    return [(step.mean[i % len(step.mean)], step.std[i % len(step.std)]) for i in range(count)]


def _beside(name: str, one: Column, other: Column) -> Iterator[str]:
    ranges = f"input {name!r}: {_within(one)} in calibration, {_within(other)} in evaluation data"
    small, large = sorted((one.rms, other.rms))
    if small and large / small > SCALES:
        yield f"{ranges}: is one of the two scaled otherwise? give both as `predict` takes them"
    elif min(one.low, other.low) < 0 <= max(one.low, other.low) and max(one.negative, other.negative) > NEGATIVE_SHARE:
        yield f"{ranges}: is one of the two normalized otherwise? give both as `predict` takes them"


def _within(column: Column) -> str:
    return f"values {_number(column.low)} to {_number(column.high)}"


def _number(value: float) -> str:
    return f"{value:.4g}"
