from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import census, tryout
from edgekit.data.dataset import Dataset, Raw, Sample
from edgekit.data.scrutiny import scrutinize
from edgekit.errors import DataError
from edgekit.model import open_model
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.session import Session
from tests.lab import models
from tests.lab.models import DIGITS, DSCNN_INT8, NORMAL, RESNET8, RESNET8_INT8, RESNET20, TEXTLINE, VWW, Task

Change = Callable[[dict[str, Any]], dict[str, Any]]
MOBILENET2 = Task(
    "mobilenetv2_imagenet_quant/mobilenet_v2_1.0_224_quant_uint8.tflite",
    0.870,
    models.images("imagenet_samples"),
    {"input": Preprocess(crop=(224, 224))},
)
TURNED = TEXTLINE.preprocess["x"]


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@dataclass(frozen=True)
class Given:
    """A source of samples that are there already."""

    samples: list[Sample]
    digest: str = ""

    def raw(self, role: str) -> Iterator[Raw]:
        return ((sample.inputs, sample.label) for sample in self.samples)


def x(change: Callable[[Any], Any]) -> Change:
    return lambda arrays: {**arrays, "x": change(arrays["x"]).astype(np.float32)}


def unlabelled(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if name != "labels"}


def relabelled(change: Callable[[Any], Any]) -> Change:
    return lambda arrays: {**arrays, "labels": change(arrays["labels"])}


def normal(pixels: Any) -> Any:
    return (pixels / 255 - NORMAL.mean) / NORMAL.std


@contextmanager
def opened(path: Path, preprocess: dict[str, Preprocess]) -> Iterator[Session]:
    model = open_model(path)
    need = EngineNeed({"onnx": "onnxruntime", "tflite": "litert"}[model.format.value])
    with Session(path.read_bytes(), Interface(model.inputs, model.outputs, preprocess), [need]) as session:
        yield session


def told(task: Task, folder: Path, change: Change | None = None, role: str = "evaluation") -> str:
    """What is suspected of a real model with its data, prepared so, in one line; "" for nothing."""
    model, order = models.shared(task.model), task.order(folder)
    for file in folder.glob("*.npz") if change else ():
        with np.load(file) as arrays:
            changed = change(dict(arrays)) if change else {}
        np.savez(file, **changed)
    with opened(model, task.preprocess) as session:
        data = order.dataset(role, session.interface)
        return "".join(tryout.suspect(session, data, census.take(data)))


class TestRight:
    @pytest.mark.parametrize(
        "task", [VWW, DSCNN_INT8, *map(slow, (RESNET20, RESNET8, RESNET8_INT8, TEXTLINE))], ids=lambda t: t.model
    )
    @pytest.mark.parametrize("role", ["calibration", "evaluation"])
    def test_preprocessing_is_not_suspected(self, task: Task, role: str, tmp_path: Path) -> None:
        assert told(task, tmp_path, role=role) == ""

    @pytest.mark.slow
    @pytest.mark.parametrize("task", [RESNET20, RESNET8, RESNET8_INT8, DSCNN_INT8, TEXTLINE], ids=lambda t: t.model)
    def test_preprocessing_is_not_suspected_without_labels(self, task: Task, tmp_path: Path) -> None:
        assert told(task, tmp_path, unlabelled) == ""

    @pytest.mark.slow
    def test_floats_in_the_layout_of_the_model_are_not_suspected(self, tmp_path: Path) -> None:
        bare = replace(RESNET20, preprocess={})
        assert told(bare, tmp_path, x(lambda pixels: np.moveaxis(normal(pixels), -1, 1))) == ""

    @pytest.mark.parametrize("task", [slow(RESNET8), slow(RESNET20), VWW, slow(TEXTLINE)], ids=lambda t: t.model)
    @pytest.mark.parametrize("most", [0.9, 1.0])
    def test_samples_of_nearly_a_single_class_are_not_suspected(self, task: Task, most: float, tmp_path: Path) -> None:
        """There an alternative by which a model gives always the same answer looks better than the right way."""
        with opened(models.shared(task.model), task.preprocess) as session:
            whole = list(task.order(tmp_path).dataset("evaluation", session.interface))
            for one in (0, 1):
                same = [sample for sample in whole if sample.label == one][:90]
                other = [sample for sample in whole if sample.label != one]
                few = [*same, *other[: round(len(same) * (1 / most - 1))]]
                found = census.of_samples("d", "evaluation", few, task.preprocess)
                data = Dataset("d", "evaluation", Given(few), session.interface)
                assert tryout.suspect(session, data, found) == ()

    def test_samples_of_a_single_class_without_labels_are_not_suspected(self, tmp_path: Path) -> None:
        def one_class(arrays: dict[str, Any]) -> dict[str, Any]:
            return {"x": arrays["x"][arrays["labels"] == 3]}

        assert told(RESNET8, tmp_path, one_class) == ""


class TestWrong:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("step", "said"),
        [
            (
                replace(NORMAL, color="bgr"),
                'swapped colours? With color = "rgb" under [preprocess.image] the float model',
            ),
            (
                Preprocess(layout="NCHW"),
                "ImageNet's mean and deviation? With scale = 0.00392156862745098, mean = [0.485, 0.",
            ),
            (
                replace(NORMAL, scale=1.0),
                "With scale = 0.00392156862745098 under [preprocess.image] the float model is righ",
            ),
            (
                Preprocess(scale=1 / 255, layout="NCHW"),
                "With mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] u",
            ),
        ],
    )
    def test_preprocessing_of_resnet20(self, step: Preprocess, said: str, tmp_path: Path) -> None:
        line = told(replace(RESNET20, preprocess={"image": step}), tmp_path)
        assert line.startswith("evaluation data: input 'image': ")
        assert said in line
        assert "is right on 81% instead of " in line and line.endswith(" of 500 samples")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            slow(
                lambda pixels: pixels / 255,
                'values 0..255? With scale = 255.0, dtype = "float32" under [preprocess.input_1]',
            ),
            slow(lambda pixels: pixels / 127.5 - 1, "values 0..255? With scale = 127.5, mean = [-127.5], "),
            (
                lambda pixels: pixels[..., ::-1],
                'swapped colours? With color = "bgr", dtype = "float32" under [preprocess.i',
            ),
            slow(
                lambda pixels: pixels.swapaxes(1, 2),
                "images on their side? With height and width exchanged the float model",
            ),
            slow(
                lambda pixels: np.moveaxis(pixels, -1, 1).reshape(pixels.shape),
                "a wrong reshape? With images transposed fr",
            ),
        ],
    )
    def test_arrays_for_resnet8(self, change: Callable[[Any], Any], said: str, tmp_path: Path) -> None:
        line = told(RESNET8, tmp_path, x(change))
        assert said in line
        assert "the float model is right on 77% instead of " in line

    @pytest.mark.slow
    @pytest.mark.parametrize(("shift", "said"), [(1, "1 taken from the labels"), (-1, "1 added to the labels")])
    def test_labels_that_count_from_another_class_on(self, shift: int, said: str, tmp_path: Path) -> None:
        line = told(RESNET8, tmp_path, relabelled(lambda labels: (labels + shift) % 10))
        assert f"the labels count from another class on? With {said} the float model is right on " in line

    @pytest.mark.slow
    def test_labels_without_the_background_class_of_the_model(self, tmp_path: Path) -> None:
        """The labels of this model have a background class in front, which the data have not."""
        said = told(MOBILENET2, tmp_path)
        assert "With 1 added to the labels the float model is right on 87% instead of 1% of 400 samples" in said

    @pytest.mark.slow
    def test_labels_in_another_order(self, tmp_path: Path) -> None:
        line = told(RESNET8, tmp_path, relabelled(lambda labels: np.array([3, 4, 5, 6, 7, 8, 9, 0, 1, 2])[labels]))
        assert "no better than guessing: wrong preprocessing, or labels in another order?" in line

    @pytest.mark.parametrize("step", [Preprocess(), Preprocess(scale=1 / 127.5, mean=(1.0,))])
    def test_preprocessing_of_person_detection(self, step: Preprocess, tmp_path: Path) -> None:
        line = told(replace(VWW, preprocess={"input_1": step}), tmp_path)
        assert "values 0..1? With scale = 0.00392156862745098" in line
        assert "is right on 85% instead of " in line

    @pytest.mark.slow
    @pytest.mark.parametrize("change", [None, unlabelled])
    def test_values_255_times_too_large_for_text_lines(self, change: Change | None, tmp_path: Path) -> None:
        line = told(replace(TEXTLINE, preprocess={"x": replace(TURNED, mean=(0.0,), std=(1.0,))}), tmp_path, change)
        assert "values 0..1?" in line or "values -1..1?" in line
        assert re.search(
            r"right on 9\d% instead of (49|50|51)% of|the same answer to all of \d+ samples, 58% sure", line
        )

    @pytest.mark.slow
    def test_colours_that_a_model_does_not_care_for_are_not_told(self, tmp_path: Path) -> None:
        """This one is right on as many text lines either way."""
        assert told(replace(TEXTLINE, preprocess={"x": replace(TURNED, color="rgb")}), tmp_path) == ""

    def test_values_too_small_without_labels(self, tmp_path: Path) -> None:
        line = told(RESNET8, tmp_path, lambda arrays: unlabelled(x(lambda pixels: pixels / 255)(arrays)))
        assert "the float model gives nearly the same answer to all of 50 samples, 39% sure; with scale = 255.0" in line


class TestScrutiny:
    def test_of_the_digits_tells_what_they_are_and_nothing_else(self) -> None:
        with opened(DIGITS / "digits.onnx", {}) as session:
            order = models.digits_order()
            sets = [order.dataset(role, session.interface) for role in ("calibration", "evaluation")]
            have = scrutinize(session, *sets)
        assert have.notes == ()
        assert [have.manifests[role]["samples"] for role in ("calibration", "evaluation")] == [200, 400]

    def test_of_one_file_twice_ends_there(self) -> None:
        with opened(DIGITS / "digits.onnx", {}) as session:
            order = models.digits_order(calibration=str(DIGITS / "evaluation.npz"))
            with pytest.raises(DataError, match="400 of 400 different samples"):
                scrutinize(session, *(order.dataset(role, session.interface) for role in ("calibration", "evaluation")))

    def test_tells_a_mistake_in_both_sets_once_and_one_of_the_calibration_data_alone(self, tmp_path: Path) -> None:
        RESNET8.order(tmp_path)
        with np.load(tmp_path / "calibration.npz") as arrays:
            np.savez(tmp_path / "small.npz", x=arrays["x"] / np.float32(255))
        with opened(models.shared(RESNET8.model), {}) as session:
            order = replace(RESNET8.order(tmp_path), calibration="small.npz")
            sets = [order.dataset(role, session.interface) for role in ("calibration", "evaluation")]
            beside, alone = scrutinize(session, *sets).notes
        assert "is one of the two scaled otherwise?" in beside
        assert alone.startswith("calibration data: input 'input_1': values 0..255? As it is, ")


def test_what_gives_no_class_scores_is_left_alone(tmp_path: Path) -> None:
    path = models.two_by_two(tmp_path / "model.onnx")
    source = models.samples(tmp_path / "d.npz", right=(4,), left=(4,))
    with opened(path, {}) as session:
        data = models.digits_order(tmp_path, evaluation=source).dataset("evaluation", session.interface)
        tryout.suspect(session, data, census.take(data))


def test_a_few_samples_say_nothing(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "model.onnx")
    source = models.samples(tmp_path / "d.npz", count=19, x=(8,))
    with opened(path, {}) as session:
        data = models.digits_order(tmp_path, evaluation=source).dataset("evaluation", session.interface)
        assert tryout.suspect(session, data, census.take(data)) == ()
