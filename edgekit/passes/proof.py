"""Proof that a conversion computes what its source computed, up to float arithmetic in another order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.model import Model
from edgekit.passes import Feeds
from edgekit_runtime.engines import Engine
from edgekit_runtime.tensors import TensorSpec

PROBES = 8
TOLERANCE = 1e-3
"""The largest difference to the source's own outputs, as a share of their span."""


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
