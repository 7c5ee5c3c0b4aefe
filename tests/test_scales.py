from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantization import scales


def detections(boxes: float, scores: float, axis: int) -> list[dict[str, np.ndarray]]:
    """Samples of an output with four columns of one size and three of another."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.random((8, 50, 4)) * boxes, rng.random((8, 50, 3)) * scores], -1).astype(np.float32)
    return [{"found": np.moveaxis(row[None], -1, axis)} for row in rows]


@pytest.mark.parametrize("axis", [1, -1])
def test_boxes_beside_scores_are_told_with_their_columns(axis: int) -> None:
    (line,) = scales.mixed(detections(640, 1, axis))
    assert line.startswith("output 'found' is of mixed scales (columns 0-3 about 3")
    assert "columns 4-6 about 0.5" in line


@pytest.mark.parametrize("ratio", [1, 2, 10])
def test_outputs_of_about_one_scale_are_not(ratio: float) -> None:
    assert scales.mixed(detections(ratio, 1, -1)) == []


def test_class_scores_and_what_is_empty_or_of_changing_shape_are_not() -> None:
    assert scales.mixed([{"scores": np.array([[1e6, 1e-6]])}]) == []
    assert scales.mixed([]) == []
    assert scales.mixed([{"y": np.ones((1, 2, 3))}, {"y": np.ones((1, 3, 3))}]) == []


def test_scattered_columns_are_told_in_runs() -> None:
    array = np.ones((1, 5, 12)) * np.where(np.arange(12) % 2, 1000.0, 1.0)
    (line,) = scales.mixed([{"y": array}])
    assert "columns 1, 3, 5, 7, … about 1e+03, columns 0, 2, 4, 6, … about 1" in line
