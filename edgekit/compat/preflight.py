"""Preflight: whether a device will load a bundle's model and has the memory for it; asked before a byte is sent.

Whether it has the room on its disk, the device says itself when it is asked what it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit import compat
from edgekit.compat.fingerprint import Fingerprint
from edgekit.compat.verdict import Engine, Finding, Verdict
from edgekit.errors import EngineNotInstalled, IncompatibleTarget
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed

DISTRIBUTIONS = {
    "litert": ("ai-edge-litert",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tflite": ("tflite-runtime",),
}
MODULES = {"litert": "ai_edge_litert", "onnxruntime": "onnxruntime", "tflite": "tflite_runtime"}
"""What the runtime imports, whoever built the package: a vendor's has a name of its own."""
MIB = 1 << 20


def check(device: str, model: Fingerprint, engines: Sequence[EngineNeed], facts: Mapping[str, Any]) -> Verdict:
    """The verdict on the engine that the device will take: the first of those that it has. ``facts``: of a probe.

    Unknown is no reason to stop: the device proves each release before it goes live.
    Raises: IncompatibleTarget.
    """
    engine = chosen(engines, facts["engines"])
    if engine is None:
        return Verdict("unknown", (Finding("unknown", "the device tells of no engine that the bundle is for"),))
    verdict = compat.judge(model, engine)
    if verdict.answer == "refused":
        hint = f"{verdict.fix}; 'edgekit device setup {device}' installs what its target takes"
        raise IncompatibleTarget(f"{device}: has {engine}: {verdict.reason}", hint)
    memory = facts.get("memory_mib")
    if model.memory is not None and memory and _mebibytes(model) > memory:
        raise IncompatibleTarget(
            f"{device}: has {memory} MiB of memory, the model needs at least {_mebibytes(model)}", "quantize it"
        )
    return verdict


def tight(model: Fingerprint, facts: Mapping[str, Any]) -> str | None:
    """What to tell of memory that is there, but not free: until the switch, the release before needs its own."""
    free = facts.get("memory_available_mib")
    if model.memory is None or not free or _mebibytes(model) <= free:
        return None
    return f"the model needs at least {_mebibytes(model)} MiB of memory, {free} are free on the device now"


def _mebibytes(model: Fingerprint) -> int:
    return -(-model.memory.peak // MIB) if model.memory else 0


def check_engines(device: str, engines: Sequence[EngineNeed], facts: Mapping[str, Any]) -> None:
    """Raises: EngineNotInstalled when none of them is there; those of plug-ins are known to the device alone."""
    names = [need.name for need in engines]
    there = facts.get("engine_modules")
    if there is None or any(name not in MODULES or MODULES[name] in there for name in names):
        return
    raise EngineNotInstalled(
        f"{device}: the model needs {' or '.join(names)}, which is not installed there",
        f"edgekit device setup {device} --engine {names[0]}",
    )


def check_ends(device: str, interface: Interface, facts: Mapping[str, Any]) -> None:
    """Raises: IncompatibleTarget for the end of a detector where nothing computes it; an older runtime does itself."""
    if interface.has_ends and not facts.get("postprocess", True):
        raise IncompatibleTarget(
            f"{device}: the bundle has the end of a detector, and edgekit-postprocess is not installed there",
            f"edgekit device setup {device}",
        )


def chosen(engines: Sequence[EngineNeed], installed: Mapping[str, str | None]) -> Engine | None:
    """The engine that the runtime takes, as a probe tells of it; None where none of them is there."""
    for need in engines:
        for distribution in DISTRIBUTIONS.get(need.name, ()):
            if version := installed.get(distribution):
                return Engine(need.name, version)
    return None
