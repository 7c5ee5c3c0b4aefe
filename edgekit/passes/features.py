"""Features: what the last layer computes from, as one more output of the built artifact.

It comes after quantization, whoever did that: what a device trains on is what the model that serves there gives. The
outputs stay as they were, and in their place; ``predict`` gives nothing else than before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.model import Format, Model, digest_of
from edgekit.passes import Context, Pass, features_onnx, features_tflite
from edgekit.passes.head_layers import GROUPS, ONE, PLACES, featureless
from edgekit.passes.proof import PROBES, check_output, load
from edgekit_runtime.features import Features

NAME = "features"
WRITERS: dict[Format, Callable[[Model, Path], Features]] = {
    Format.ONNX: features_onnx.write,
    Format.TFLITE: features_tflite.write,
}
"""Each writes the model anew, and tells all of its features but their size."""


@dataclass(frozen=True)
class _Shown:
    """Features of one run."""

    array: NDArray[np.generic]
    samples: int

    @property
    def size(self) -> int:
        """Numbers of one sample; 0 where they have a place besides: a row each of a text, a pixel each of a picture."""
        sizes = self.array.shape[1:]
        flat = self.array.shape[:1] == (self.samples,) and max(sizes, default=0) == int(np.prod(sizes))
        return max(sizes, default=0) if flat else 0


def run(model: Model, context: Context) -> Model:
    """Raises: ConversionError for a model that ends in no dense layer, DataError, EngineError."""
    path = context.work / model.path.name
    told = WRITERS[model.format](model, path)
    written = replace(model, path=path, digest=digest_of(path), lineage=(*model.lineage, NAME))
    return replace(written, features=replace(told, size=_proven(model, written, told.tensor, context)))


def _proven(model: Model, written: Model, tensor: str, context: Context) -> int:
    """The size of the features, of an artifact whose outputs are as they were."""
    before, after, sizes = load(model), load(written), set[int]()
    for feed in islice(context.feeds(model), PROBES):
        want, got = before.run(feed), after.run(feed)
        for spec in model.outputs:
            check_output(written, spec, want[spec.inner], got[spec.inner])
        scores, samples = want[model.outputs[0].inner], next(iter(feed.values())).shape[0]
        size = _Shown(got[tensor], samples).size
        if why := _unfit(scores, samples, size):
            raise featureless(model, why)
        sizes.add(size)
    before.close()
    after.close()
    if len(sizes) != 1:
        raise featureless(model, PLACES)
    return sizes.pop()


def _unfit(scores: NDArray[np.generic], samples: int, size: int) -> str:
    """Why nothing can be trained that gives these scores, of features of this size; "" where it can.

    Devices take the last axis of the scores for the classes.
    """
    each = scores.size // samples
    if each <= 1:
        return ONE
    if not size:
        return PLACES
    return "" if scores.shape[-1:] == (each,) else GROUPS.format(each, scores.shape[-1])


features = Pass(NAME, Format.ONNX, Format.ONNX, run)
