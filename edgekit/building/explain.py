"""Explain: why each layer of a chosen candidate is in float or in integers, with what that costs in decibels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgekit.building.candidate import Candidate
from edgekit.building.workshop import Workshop
from edgekit.model import Model
from edgekit.precision import Precision
from edgekit.quantization import calibration
from edgekit.quantization.mixed import Sensitivity

LEVELS = {Precision.INT16X8: 1 << 16}


def layers(
    workshop: Workshop, source: Model, candidate: Candidate, ranking: Sequence[Sensitivity]
) -> list[dict[str, Any]]:
    """Name, precision, ``sqnr_db`` and reason of each layer; nothing where calibration decided nothing.

    ``sqnr_db`` is that of the layer's output as its range and steps tell it over the calibration samples; for a layer
    in float, that of the model's outputs when only this layer is quantized.
    """
    recipe = candidate.recipe
    if not recipe.precision.calibrated or not recipe.passes:
        return []
    prepared = workshop.prepared(source, recipe)
    statistics = workshop.statistics(prepared)
    ranges = calibration.ranges(statistics, recipe.quantization.calibrator)
    harm = {each.layer: each.sqnr_db for each in ranking}
    told = []
    for name, tensor in recipe.passes[-1].layers(prepared).items():
        if name in recipe.quantization.float_layers:
            told.append(_float(name, harm.get(name)))
        elif tensor in statistics:
            levels = LEVELS.get(recipe.precision, calibration.LEVELS)
            told.append(
                _quantized(name, recipe.precision, calibration.sqnr_db(statistics[tensor], ranges[tensor], levels))
            )
    return told


def _float(name: str, harm: float | None) -> dict[str, Any]:
    reason = "the budget needs it in float" + ("" if harm is None else f": alone it leaves the outputs {harm:.1f} dB")
    return {"name": name, "precision": "float32", "sqnr_db": _rounded(harm), "reason": reason}


def _quantized(name: str, precision: Precision, sqnr_db: float) -> dict[str, Any]:
    word = "int16" if precision is Precision.INT16X8 else "int8"
    reason = f"its output keeps {sqnr_db:.1f} dB" if math.isfinite(sqnr_db) else "its output is constant"
    return {"name": name, "precision": word, "sqnr_db": _rounded(sqnr_db), "reason": reason}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 2)
