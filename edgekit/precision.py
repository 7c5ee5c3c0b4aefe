"""Precision: in which number formats a candidate computes, and how their ranges are set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Calibrator(Enum):
    """How an activation's range is taken from what calibration samples showed; see ``quantization.calibration``."""

    MSE = "mse"
    PERCENTILE = "percentile"
    MINMAX = "minmax"
    ENTROPY = "entropy"


class Precision(Enum):
    """What weights are kept in × what is computed in; the value is its word in TOML, in JSON and on the command line.

    ``int8`` is static: ranges of the activations are set by calibration. ``mixed`` is int8 with the layers in float
    that int8 harms most. ``int16x8`` has int16 activations and int8 weights.
    """

    FLOAT32 = "float32"
    INT8 = "int8"
    MIXED = "mixed"
    INT16X8 = "int16x8"
    FLOAT16 = "float16"
    DYNAMIC = "int8-dynamic"
    WEIGHTS = "int8-weights"

    @property
    def calibrators(self) -> tuple[Calibrator, ...]:
        """Those that may set its ranges, in the order in which they are worth trying. 16 bits have nothing to clip."""
        if self in (Precision.INT8, Precision.MIXED):
            return tuple(Calibrator)
        return (Calibrator.MINMAX,) if self is Precision.INT16X8 else ()

    @property
    def calibrated(self) -> bool:
        """Whether calibration samples decide anything in it."""
        return bool(self.calibrators)


@dataclass(frozen=True)
class Quantization:
    """``float_layers`` stay in float: ONNX nodes by name, TFLite operators by the name of their first output."""

    precision: Precision
    calibrator: Calibrator = Calibrator.MINMAX
    float_layers: frozenset[str] = frozenset()
