"""Prove: run a release's golden vectors on this device's own kernels, before it may serve.

Kernels differ between processors, so what the host saw is met within the limits in the manifest; a model that is
right there and wrong here is what this finds.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit_runtime import engines, golden, serving
from edgekit_runtime.compare import max_abs_error, same_answer
from edgekit_runtime.errors import BundleError
from edgekit_runtime.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.compare import Outputs
    from edgekit_runtime.manifest import Manifest
    from edgekit_runtime.setting import Setting, Tuned


@dataclass(frozen=True)
class Proof:
    """What the vectors gave here: the largest difference to the host, and the share of equal answers.

    ``share``: of the nodes that ``provider`` runs, None if unknown; ``degraded``: why that is too little, or "".
    """

    ok: bool
    vectors: int
    max_abs_error: float
    agreement: float
    engine: str
    provider: str
    reasons: tuple[str, ...] = ()
    share: float | None = None
    degraded: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: None where there is no largest difference."""
        error = self.max_abs_error if math.isfinite(self.max_abs_error) else None
        return {**asdict(self), "max_abs_error": error, "reasons": list(self.reasons)}


def prove(bundle: Bundle, way: Setting | Tuned | None = None, cache: Path | None = None) -> Proof:
    """The proof in this process, as declared or in another way; ``cache`` is the engine's.

    Raises: BundleError, EngineError (it does not load).
    """
    vectors, model, interface = golden.of_bundle(bundle), serving.model(bundle), bundle.manifest.interface
    engine = engines.load(model, *serving.asked(bundle, way, cache))
    with Session.later(lambda: (engine, ""), interface) as session:
        got = [session.predict(vector.inputs) for vector in vectors]
        shares = [engines.share(engine, model, interface.feeds(vector.inputs)) for vector in vectors[:1]]
    answers = [(vector.expected, have) for vector, have in zip(vectors, got)]
    proof = judge(answers, bundle.manifest, f"{engine.name} {engine.version}", engine.provider)
    return replace(proof, share=shares[0], degraded=serving.below(bundle, engine, shares[0]))


def judge(answers: list[tuple[Outputs, Outputs]], manifest: Manifest, engine: str, provider: str) -> Proof:
    """Compare what had to come out with what did, by vector; pure."""
    limits, declared = manifest.proof, manifest.interface.agreement
    if len(answers) != limits.vectors or not answers:
        raise BundleError(f"{len(answers)} golden vectors where the manifest says {limits.vectors}")
    error = max(max_abs_error(want, have, declared) for want, have in answers)
    agreement = sum(same_answer(want, have, declared) for want, have in answers) / len(answers)
    reasons = []
    if not error <= limits.max_abs_error:
        reasons.append(f"outputs differ from the host's by {error:.4g}, allowed are {limits.max_abs_error:.4g}")
    if agreement < limits.min_agreement:
        reasons.append(f"only {agreement:.0%} of the answers are the host's, {limits.min_agreement:.0%} are needed")
    return Proof(not reasons, len(answers), error, agreement, engine, provider, tuple(reasons))
