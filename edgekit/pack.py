"""Pack: what goes into the bundle of a chosen candidate: its manifest and its golden vectors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice

import numpy as np

from edgekit.bundle import Contents
from edgekit.dataset import Dataset, Sample
from edgekit.guard import Measured, Verdict
from edgekit.model import Model
from edgekit.order import Order
from edgekit.recipe import FLOAT
from edgekit.target import EngineChoice, Target
from edgekit.workshop import Candidate
from edgekit_runtime import golden
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits
from edgekit_runtime.session import Session

VECTORS = 16
POOL = 256
"""Golden vectors are taken evenly from so many first evaluation samples."""
ERROR_SHARE = {FLOAT: 0.01}
QUANTIZED_ERROR_SHARE = 0.1
"""How far a device may be from the host, as a share of the span of the float outputs. Kernels that computed int8
wrongly were off by 0.16 to 0.5 of it, right ones on another processor by 0.004."""
LEAST_ERROR = 1e-4
MIN_AGREEMENT = 0.9
TOOLS = ("edgekit-sdk", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "numpy")


def needs(engines: Sequence[EngineChoice], threads: int) -> tuple[EngineNeed, ...]:
    """A target's engines as a device is asked for them."""
    return tuple(EngineNeed(each.name, each.version, each.providers, threads) for each in engines)


def vectors(baseline: Session, chosen: Session, samples: Dataset, count: int) -> list[golden.Vector]:
    """Golden vectors from some of ``count`` evaluation samples, with what the chosen and the float model give here."""
    step = max(1, min(count, POOL) // VECTORS)
    return [_vector(baseline, chosen, sample) for sample in islice(samples, 0, step * VECTORS, step)]


def _vector(baseline: Session, chosen: Session, sample: Sample) -> golden.Vector:
    return golden.Vector(sample.inputs, chosen.predict(sample.inputs), baseline.predict(sample.inputs))


def contents(
    source: Model,
    candidate: Candidate,
    target: Target,
    order: Order,
    golden_vectors: list[golden.Vector],
    measured: Sequence[Measured],
    verdict: Verdict,
) -> Contents:
    """All of a bundle but its signature."""
    recipe, model = candidate.recipe, candidate.model
    manifest = Manifest(
        app=order.app,
        version=order.version,
        sequence=order.now_s,
        target=target.name,
        arch=target.arch,
        format=recipe.format.value,
        precision=recipe.precision,
        engines=needs(recipe.engines, target.threads),
        interface=Interface(model.inputs, model.outputs, order.preprocess),
        proof=_limits(golden_vectors, recipe.precision),
        budget=dict(order.budget.as_dict()),
        verdict={**verdict.as_dict(), "candidates": [each.as_dict() for each in measured]},
        provenance=_provenance(source, model, order),
    )
    return Contents(manifest, model.path.read_bytes(), golden.dump(golden_vectors))


def _limits(golden_vectors: list[golden.Vector], precision: str) -> ProofLimits:
    references = [array for vector in golden_vectors for array in vector.reference.values() if array.size]
    span = max((float(np.ptp(array.astype(np.float64))) for array in references), default=0.0)
    allowed = max(span * ERROR_SHARE.get(precision, QUANTIZED_ERROR_SHARE), LEAST_ERROR)
    return ProofLimits(len(golden_vectors), allowed, MIN_AGREEMENT)


def _provenance(source: Model, model: Model, order: Order) -> dict[str, object]:
    interface = Interface(model.inputs, model.outputs, order.preprocess)
    return {
        "source": {"name": source.path.name, "format": source.format.value, "digest": source.digest},
        "passes": list(model.lineage),
        "data": {role: order.dataset(role, interface).source.digest for role in ("calibration", "evaluation")},
        "tools": {name: version(name) for name in TOOLS},
    }
