"""Detections: read as models write them, one for each object, and matched as people would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit_postprocess.detections import MOST, Detections, f1, largest_difference, pairs, read
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.errors import EngineError

BOXES = Agreement("boxes")
CORNERS = np.array([[10.0, 20, 30, 60], [100, 100, 140, 120], [200, 0, 210, 10]])
SCORES, CLASSES = np.array([0.9, 0.8, 0.7]), np.array([2.0, 0, 2])
FOUND = Detections(CORNERS, SCORES, CLASSES)
NO = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))


def same(found: Detections, want: Detections = FOUND) -> bool:
    return all(
        np.allclose(a, b) and a.shape == b.shape for a, b in zip(vars(found).values(), vars(want).values(), strict=True)
    )


def by_class(scale: float = 1.0) -> NDArray[Any]:
    """A column a class, as detectors write before anything is suppressed."""
    table = np.full((3, 5), 0.01)
    table[[0, 1, 2], CLASSES.astype(int)] = SCORES
    return table * scale


def centred() -> NDArray[Any]:
    size = CORNERS[:, 2:] - CORNERS[:, :2]
    return np.concatenate([CORNERS[:, :2] + size / 2, size], axis=1)


def padded(rows: NDArray[Any], count: int = 20) -> NDArray[Any]:
    """To more rows than columns, as raw outputs have."""
    return np.concatenate([rows, np.zeros((count - len(rows), rows.shape[1]))])


class TestRead:
    """One image's objects, whoever wrote them."""

    def test_yolo_of_version_8_and_11(self) -> None:
        table = padded(np.concatenate([centred(), by_class()], axis=1))
        how = replace(BOXES, corners="cxcywh")
        assert same(read({"output0": table.T[None].astype(np.float32)}, "output0", how))
        assert same(read({"output0": table[None]}, "output0", how))

    def test_yolo_of_version_5_with_the_score_of_there_being_an_object(self) -> None:
        table = padded(np.concatenate([centred(), np.full((3, 1), 0.5), by_class(2)], axis=1))
        assert same(read({"o": table[None]}, "o", replace(BOXES, corners="cxcywh", columns="object, scores")))

    def test_suppressed_rows_of_six_however_many_there_are(self) -> None:
        how = replace(BOXES, columns="score, class")
        rows = np.concatenate([CORNERS, SCORES[:, None], CLASSES[:, None]], axis=1)
        assert same(read({"o": rows[None]}, "o", how))
        assert same(read({"o": padded(rows, 300)}, "o", how))
        assert same(read({"o": rows.T[None]}, "o", how))
        assert same(read({"o": rows[None, :0]}, "o", how), NO)

    def test_four_outputs_of_the_tflite_detector(self) -> None:
        outputs = {
            "where": padded(CORNERS[:, [1, 0, 3, 2]], 10)[None].astype(np.float32),
            "which": np.pad(CLASSES, (0, 7))[None],
            "how sure": np.pad(SCORES, (0, 7))[None],
            "count": np.array([3.0]),
        }
        how = Agreement("boxes", corners="yxyx", scores="how sure", classes="which")
        assert same(read(outputs, "where", how))
        assert how.takes == ("how sure", "which")

    def test_outputs_whose_length_is_the_number_of_objects(self) -> None:
        how = Agreement("boxes", scores="scores", classes="labels")
        for count in range(4):
            outputs = {"boxes": CORNERS[:count], "labels": CLASSES[:count].astype(int), "scores": SCORES[:count]}
            want = Detections(CORNERS[:count], SCORES[:count], CLASSES[:count])
            assert same(read(outputs, "boxes", how), want)

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_score_a_class_in_an_output_of_its_own(self, turned: bool) -> None:
        scores = by_class().T if turned else by_class()
        how = Agreement("boxes", corners="xywh", scores="s")
        boxes = np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], axis=1)
        assert same(read({"b": boxes[None], "s": scores[None]}, "b", how))

    def test_without_classes_all_are_of_one(self) -> None:
        found = read({"b": CORNERS, "s": SCORES}, "b", Agreement("boxes", scores="s"))
        assert same(found, replace(FOUND, classes=np.zeros(3)))

    @pytest.mark.parametrize(
        ("outputs", "how"),
        [
            ({"o": np.zeros(6)}, BOXES),
            ({"o": np.zeros((2, 8, 100))}, BOXES),
            ({"o": np.zeros((1, 4, 5))}, replace(BOXES, columns="object, scores")),
            ({"o": np.zeros((1, 7, 100))}, replace(BOXES, columns="score, class")),
            ({"o": np.zeros((10, 5)), "s": np.zeros(10)}, Agreement("boxes", scores="s")),
            ({"o": np.zeros((10, 4)), "s": np.zeros(9)}, Agreement("boxes", scores="s")),
            ({"o": np.zeros((10, 4)), "s": np.zeros((9, 3))}, Agreement("boxes", scores="s")),
            (
                {"o": np.zeros((10, 4)), "s": np.zeros(10), "c": np.zeros(9)},
                Agreement("boxes", scores="s", classes="c"),
            ),
            ({"o": np.zeros((10, 4))}, Agreement("boxes", scores="s")),
            ({}, BOXES),
        ],
    )
    def test_what_is_not_as_declared_is_refused(self, outputs: dict[str, NDArray[Any]], how: Agreement) -> None:
        with pytest.raises(EngineError, match="output 'o' holds no boxes as declared") as caught:
            read(outputs, "o", how)
        assert caught.value.hint == "see agreement.o"


class TestObjects:
    HOW = replace(BOXES, columns="score, class")

    def found(self, *rows: list[float]) -> list[list[float]]:
        return read({"o": np.array(rows, np.float32)}, "o", self.HOW).boxes.tolist()

    def test_the_best_of_those_that_overlap_by_half_stands_for_them(self) -> None:
        assert self.found([0, 0, 10, 10, 0.8, 1], [0, 0, 10, 9, 0.9, 1]) == [[0, 0, 10, 9]]
        assert len(self.found([0, 0, 10, 10, 0.8, 1], [0, 0, 10, 4.9, 0.9, 1])) == 2
        assert len(self.found([0, 0, 10, 10, 0.8, 1], [0, 0, 10, 9, 0.9, 2])) == 2

    def test_what_a_suppressed_box_overlaps_stays(self) -> None:
        rows = [[0, 0, 10, 10, 0.9, 1], [4, 0, 14, 10, 0.8, 1], [8, 0, 18, 10, 0.7, 1]]
        assert [box[0] for box in self.found(*rows)] == [0, 4, 8]
        rows[1][:3] = [3, 0, 13]
        rows[2][:3] = [6, 0, 16]
        assert [box[0] for box in self.found(*rows)] == [0, 6]

    def test_faint_empty_and_unreal_boxes_are_none(self) -> None:
        nan, inf = float("nan"), float("inf")
        odd = [[0, 0, 0, 10, 0.9, 1], [5, 5, 0, 0, 0.9, 1], [0, 0, 9, 9, nan, 1], [nan, 0, 9, 9, 0.9, 1]]
        with np.errstate(invalid="ignore"):
            assert self.found([0, 0, 9, 9, 0.2499, 1], *odd) == []
            assert len(self.found([0, 0, 9, 9, 0.25, 1], [0, 0, 9, 9, inf, 2])) == 2

    def test_numbers_of_classes_may_have_been_quantized(self) -> None:
        found = read({"o": np.array([[0, 0, 9, 9, 0.9, 2.996], [0, 0, 9, 8, 0.8, 3.004]])}, "o", self.HOW)
        assert found.classes.tolist() == [3]

    def test_thousands_of_boxes_are_no_trouble(self) -> None:
        rows = np.random.default_rng(0).random((5000, 6)).astype(np.float32)
        rows[:, 2:4], rows[:, 5] = rows[:, 2:4] + 1, np.arange(5000) % 80
        assert 0 < len(read({"o": rows}, "o", self.HOW).scores) < MOST


class TestMatching:
    def test_the_same_objects_in_another_order(self) -> None:
        other = Detections(CORNERS[::-1] + 4, SCORES, CLASSES[::-1])
        assert pairs(FOUND, other).tolist() == [[1, 1], [0, 2]]  # the third is too small for that
        assert f1(FOUND, other) == 2 / 3
        assert largest_difference(FOUND, other) == pytest.approx(4)

    def test_another_class_is_another_object(self) -> None:
        assert f1(FOUND, replace(FOUND, classes=CLASSES + 1)) == 0

    def test_an_object_is_found_once(self) -> None:
        twice = Detections(np.repeat(CORNERS[:1], 2, 0), SCORES[:2], CLASSES[:1].repeat(2))
        assert pairs(Detections(CORNERS[:1], SCORES[:1], CLASSES[:1]), twice).tolist() == [[0, 0]]

    def test_scores_differ_too(self) -> None:
        assert largest_difference(FOUND, replace(FOUND, scores=SCORES - 0.25)) == pytest.approx(0.25)

    def test_nothing_is_found_by_both(self) -> None:
        assert (f1(NO, NO), f1(FOUND, NO), f1(NO, FOUND)) == (1, 0, 0)
        assert largest_difference(FOUND, NO) == 0

    @given(nps.arrays(np.float32, (12, 6), elements=st.floats(-8, 8, width=32)))
    def test_each_answer_is_the_same_as_itself(self, rows: NDArray[np.float32]) -> None:
        found = read({"o": rows}, "o", TestObjects.HOW)
        assert f1(found, found) == 1
        assert largest_difference(found, found) == 0
        assert (np.diff(found.scores) <= 0).all()
