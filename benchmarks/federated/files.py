"""Files: updates as devices send them, of a model of eight arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit_train.update import Update, Weights, dump

LAYERS = 8


def base(size: int) -> Weights:
    """The model: zeros of about ``size`` numbers in all."""
    return {f"layer-{number}": np.zeros((4, size // LAYERS // 4), np.float32) for number in range(LAYERS)}


def write(folder: Path, count: int, size: int) -> None:
    """Updates of as many devices, one file each: what they have in common, and as much of their own."""
    shared = _random(0, size)
    for number in range(count):
        delta = {name: shared[name] + own for name, own in _random(number + 1, size).items()}
        told = Update("digits", "sha256:" + "0" * 64, "0" * 32, f"device-{number:04}", 100 + number, delta)
        (folder / f"{told.device}.safetensors").write_bytes(dump(told))


def _random(seed: int, size: int) -> Weights:
    numbers = np.random.default_rng(seed)
    return {name: np.asarray(numbers.standard_normal(each.shape, np.float32)) for name, each in base(size).items()}
