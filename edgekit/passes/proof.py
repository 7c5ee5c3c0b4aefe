"""Proof that a conversion computes what its source computed, up to float arithmetic in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ConversionError, EngineError
from edgekit.model import Format, Model
from edgekit.passes import Feeds
from edgekit.passes.layers import Layer, first_lost, trace
from edgekit_runtime.engines import Engine, EngineOptions, litert, ort
from edgekit_runtime.tensors import TensorSpec

PROBES = 8
TOLERANCE = 1e-3
"""The largest difference to the source's own outputs, as a share of their span."""
ENGINES = {Format.ONNX: ort.load, Format.TFLITE: litert.load}


@dataclass(frozen=True)
class Probe:
    """Inputs, and what the source gives for them; both in the order of its tensors."""

    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]


def probes_of(source: Model, feeds: Iterable[Feeds]) -> list[Probe]:
    """What an ONNX or TFLite model gives for the first feeds, and for two at once where the batch is free.

    Raises: EngineError.
    """
    engine, first = load(source), list(islice(feeds, PROBES))
    probes = [_probe(source, feed, engine.run(feed)) for feed in first]
    if len(first) > 1 and all(spec.shape[:1] == (None,) for spec in source.inputs):
        pair = {name: np.concatenate([first[0][name], first[1][name]]) for name in first[0]}
        with suppress(EngineError):  # some call a batch free that is not
            probes.append(_probe(source, pair, engine.run(pair)))
    return probes


def _probe(source: Model, feed: Feeds, given: Feeds) -> Probe:
    inputs, outputs = (feed[spec.inner] for spec in source.inputs), (given[spec.inner] for spec in source.outputs)
    return Probe(tuple(inputs), tuple(outputs))


def read_probes(path: Path) -> list[Probe]:
    """What ``references.write_probes`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    count = sum(name.startswith("in.") and name.endswith(".0") for name in arrays)
    return [Probe(_numbered(arrays, f"in.{index}."), _numbered(arrays, f"out.{index}.")) for index in range(count)]


def prove(model: Model, probes: Sequence[Probe], layers: Callable[[int], Sequence[Layer]]) -> None:
    """Raises: ConversionError when a converted model gives something else than its source for a probe.

    It names the first layer that differs; ``layers`` gives those of the source, for the probe of a number.
    """
    engine = load(model)
    for index, probe in enumerate(probes):
        got = engine.run({spec.inner: array for spec, array in zip(model.inputs, probe.inputs, strict=True)})
        for spec, want in zip(model.outputs, probe.outputs, strict=True):
            try:
                check_output(model, spec, want, got[spec.inner])
            except ConversionError as error:
                where = _first_difference(model, probe, partial(layers, index))
                raise ConversionError(f"{error.message}{where}", error.hint) from error
    engine.close()


def load(model: Model) -> Engine:
    """The model in its engine. Raises: EngineError."""
    return ENGINES[model.format](model.path.read_bytes(), EngineOptions(threads=1))


def check_engines(model: Model, source: Engine, converted: Engine, feeds: Iterable[Feeds]) -> None:
    """Raises: ConversionError when two engines, of the same tensor names, give something else for the first feeds."""
    for feed in islice(feeds, PROBES):
        want, got = source.run(feed), converted.run(feed)
        for spec in model.outputs:
            check_output(model, spec, want[spec.inner], got[spec.inner])


def check_output(model: Model, spec: TensorSpec, want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> None:
    """Raises: ConversionError when an output of the converted model is not what its source gave."""
    if want.shape != got.shape:
        raise ConversionError(
            f"{model.path.name}: output {spec.name} has shape {got.shape}, in the source {want.shape}"
        )
    a, b = want.astype(np.float64), got.astype(np.float64)
    error, largest = (float(np.max(np.abs(values), initial=0.0)) for values in (a - b, a))
    span = (float(np.ptp(a)) if a.size else 0.0) or largest
    if not error <= TOLERANCE * max(span, 1e-6):
        raise ConversionError(
            f"{model.path.name}: output {spec.name} differs from the source by {error:.3g} of a span of {span:.3g}",
            "export it in another way, e.g. to ONNX",
        )


def _first_difference(model: Model, probe: Probe, layers: Callable[[], Sequence[Layer]]) -> str:
    try:
        lost = first_lost(layers(), [layer.value for layer in trace(model, probe.inputs)])
    except (ConversionError, EngineError, ValueError, RuntimeError):  # it is only a hint to what is wrong anyway
        return ""
    return f"; the first layer that differs: {lost.name.partition(';')[0]}" if lost else ""


def _numbered(arrays: dict[str, NDArray[Any]], prefix: str) -> tuple[NDArray[Any], ...]:
    count = sum(name.startswith(prefix) for name in arrays)
    return tuple(arrays[f"{prefix}{i}"] for i in range(count))
