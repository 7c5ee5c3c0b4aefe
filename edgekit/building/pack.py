"""Pack: what goes into the bundle of a chosen candidate: its manifest and its golden vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from edgekit import compat, tools
from edgekit.building.candidate import Candidate
from edgekit.building.guard import Verdict
from edgekit.building.measure import Measured
from edgekit.building.order import Order
from edgekit.bundle import Contents
from edgekit.compat import fingerprint
from edgekit.data.dataset import Dataset, Sample
from edgekit.model import Model
from edgekit.precision import Precision
from edgekit.target import needs
from edgekit_runtime import golden
from edgekit_runtime.compare import Agreements, judged
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits, canonical
from edgekit_runtime.session import Session

VECTORS = 16
POOL = 256
"""Golden vectors are taken evenly from so many first evaluation samples."""
ERROR_SHARE = {Precision.FLOAT32: 0.01, Precision.FLOAT16: 0.02}
QUANTIZED_ERROR_SHARE = 0.1
"""How far a device may be from the host, as a share of the span of the float outputs. Kernels that computed int8
wrongly were off by 0.16 to 0.5 of it, right ones on another processor by 0.004."""
LEAST_ERROR = 1e-4
MIN_AGREEMENT = 0.9


def vectors(baseline: Session, chosen: Session, samples: Dataset, count: int) -> list[golden.Vector]:
    """Golden vectors from some of ``count`` evaluation samples, with what the chosen and the float model give here."""
    step = max(1, min(count, POOL) // VECTORS)
    return [_vector(baseline, chosen, sample) for sample in islice(samples, 0, step * VECTORS, step)]


def _vector(baseline: Session, chosen: Session, sample: Sample) -> golden.Vector:
    return golden.Vector(sample.inputs, chosen.predict(sample.inputs), baseline.predict(sample.inputs))


@dataclass(frozen=True)
class Findings:
    """What a build found out: all candidates as measured, the verdict on them, why the layers are as they are, and
    what the data are, by role.
    """

    measured: Sequence[Measured]
    verdict: Verdict
    layers: Sequence[dict[str, Any]] = ()
    data: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def contents(
    source: Model, candidate: Candidate, order: Order, golden_vectors: list[golden.Vector], findings: Findings
) -> Contents:
    """All of a bundle but its signature."""
    recipe, model, target = candidate.recipe, candidate.model, candidate.target
    manifest = Manifest(
        app=order.app,
        version=order.version,
        sequence=order.now_s,
        target=target.name,
        arch=target.arch,
        format=recipe.format.value,
        precision=recipe.precision.value,
        engines=_engines(candidate),
        interface=candidate.interface,
        proof=_limits(golden_vectors, recipe.precision, candidate.interface.agreement),
        budget=dict(order.budget.as_dict()),
        verdict={**findings.verdict.as_dict(), "candidates": [each.as_dict() for each in findings.measured]},
        expires=order.expires_s,
        provenance={**_provenance(source, model, order), "data": dict(findings.data), "layers": list(findings.layers)},
    )
    return Contents(manifest, model.path.read_bytes(), golden.dump(golden_vectors))


def _engines(candidate: Candidate) -> tuple[EngineNeed, ...]:
    """The target's engines, each from the first release on that is known to load the model."""
    found = fingerprint.read(candidate.model.path)
    wanted = needs(candidate.recipe.engines, candidate.target.threads)
    return tuple(replace(need, version=compat.narrowed(found, need.name, need.version)) for need in wanted)


def _limits(golden_vectors: list[golden.Vector], precision: Precision, agreement: Agreements) -> ProofLimits:
    spans = [
        float(np.ptp(vector.reference[name].astype(np.float64)))
        for vector in golden_vectors
        for name, how in judged(vector.reference, agreement)
        if vector.reference[name].size and how.by != "none"
    ]
    allowed = max(max(spans, default=0.0) * ERROR_SHARE.get(precision, QUANTIZED_ERROR_SHARE), LEAST_ERROR)
    return ProofLimits(len(golden_vectors), allowed, MIN_AGREEMENT)


def _provenance(source: Model, model: Model, order: Order) -> dict[str, object]:
    return {
        **order.origin,
        "source": _source(source),
        "passes": list(model.lineage),
        "preprocess": _digest({name: step.as_dict() for name, step in order.preprocess.items()}),
        "tools": tools.versions(),
    }


def _source(source: Model) -> dict[str, str]:
    told = {"name": source.path.name, "format": source.format.value, "digest": source.digest}
    return {**told, "factory": source.factory} if source.factory else told


def _digest(document: object) -> str:
    return f"sha256:{hashlib.sha256(canonical(document)).hexdigest()}"
