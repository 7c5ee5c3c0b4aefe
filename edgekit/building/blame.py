"""Blame: which layers keep a candidate from the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit import anatomy
from edgekit.building.candidate import Candidate
from edgekit.building.guard import Nearest
from edgekit.quantization.mixed import Sensitivity

WORST = 3
HEAVY = ("max_size_mib", "max_memory_mib")


def of_ranking(name: str, ranking: Sequence[Sensitivity]) -> list[str]:
    """The layers that harm a mixed candidate most when they are quantized, where all were ranked."""
    if len(ranking) < WORST:
        return []
    return [f"{name}: most noise in the outputs comes from {_in_db({each.layer: each.sqnr_db for each in ranking})}"]


def of_broken(nearest: Nearest, candidate: Candidate, explained: Sequence[dict[str, Any]]) -> list[str]:
    """Those of the candidate that came nearest, for each kind of line that it breaks; ``explained`` by ``explain``."""
    noise = {each["name"]: each["sqnr_db"] for each in explained if each["sqnr_db"] is not None}
    told = []
    if noise and any(each.is_answers for each in nearest.lines):
        told.append(f"{nearest.name}: most noise is in {_in_db(noise)}")
    if any(each.line in HEAVY for each in nearest.lines):
        told += _heaviest(nearest.name, candidate)
    return told


def _heaviest(name: str, candidate: Candidate) -> list[str]:
    found = anatomy.of_model(candidate.model.path.read_bytes(), candidate.recipe.format.value)
    weights = {each.name: each.weight_bytes for each in found.layers if each.weight_bytes} if found else {}
    worst = sorted(weights, key=lambda layer: -weights[layer])[:WORST]
    listed = ", ".join(f"{layer} ({weights[layer] / 1024:.1f} KiB)" for layer in worst)
    return [f"{name}: the largest weights are those of {listed}"] if listed else []


def _in_db(noise_db: dict[str, float]) -> str:
    worst = sorted(noise_db, key=lambda layer: noise_db[layer])[:WORST]
    return ", ".join(f"{layer} ({noise_db[layer]:.1f} dB)" for layer in worst)
