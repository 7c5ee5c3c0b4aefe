"""Preflight: whether the engine that a device has will load a bundle's model; asked before a byte of it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit import compat
from edgekit.compat.fingerprint import Fingerprint
from edgekit.compat.verdict import Engine, Finding, Verdict
from edgekit.errors import IncompatibleTarget
from edgekit_runtime.manifest import EngineNeed

DISTRIBUTIONS = {
    "litert": ("ai-edge-litert",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tflite": ("tflite-runtime",),
}
MIB = 1 << 20


def check(device: str, model: Fingerprint, engines: Sequence[EngineNeed], facts: Mapping[str, Any]) -> Verdict:
    """The verdict on the engine that the device will take: the first of those that it has. ``facts``: of a probe.

    Unknown is no reason to stop: the device proves each release before it goes live. Raises: IncompatibleTarget.
    """
    engine = chosen(engines, facts["engines"])
    if engine is None:
        return Verdict("unknown", (Finding("unknown", "the device tells of no engine that the bundle is for"),))
    verdict = compat.judge(model, engine)
    if verdict.answer == "refused":
        hint = f"{verdict.fix}; 'edgekit device setup {device}' installs what its target takes"
        raise IncompatibleTarget(f"{device}: has {engine}: {verdict.reason}", hint)
    memory = facts.get("memory_mib")
    if model.memory is not None and memory and model.memory.peak > memory * MIB:
        needed = -(-model.memory.peak // MIB)
        raise IncompatibleTarget(
            f"{device}: has {memory} MiB of memory, the model needs at least {needed}", "quantize it"
        )
    return verdict


def chosen(engines: Sequence[EngineNeed], installed: Mapping[str, str | None]) -> Engine | None:
    """The engine that the runtime takes, as a probe tells of it; None where none of them is there."""
    for need in engines:
        for distribution in DISTRIBUTIONS.get(need.name, ()):
            if version := installed.get(distribution):
                return Engine(need.name, version)
    return None
