"""The calibration profile of a bundle, of a real model on real data, and what a device makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit import drift
from edgekit import target as targets
from edgekit.build import build
from edgekit.building import profile
from edgekit.building.representable import Held
from edgekit.bundle import Contents
from edgekit.model import open_model
from edgekit.precision import Precision
from edgekit_runtime import golden
from edgekit_runtime.compare import max_abs_error
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec
from edgekit_watch import calibration, shadow
from edgekit_watch.calibration import MOST_BYTES
from edgekit_watch.quality import Quality
from tests.lab.models import DIGITS, RESNET8, RESNET20, Task, digits_order, shared
from tests.runtime.bundles import make_key, write

Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def contents(folder: Path, *, shadow: bool = False) -> Contents:
    """The digits in int8, evaluated on every other sample."""
    found = np.load(DIGITS / "evaluation.npz")
    np.savez(folder / "half.npz", x=found["x"][::2], labels=found["labels"][::2])
    order = digits_order(precisions=(Precision.INT8,), evaluation=str(folder / "half.npz"), shadow=shadow)
    made = build(open_model(DIGITS / "digits.onnx"), targets.load("pi"), order, lambda line: None).contents
    assert made
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return contents(tmp_path_factory.mktemp("profile"), shadow=True)


def others() -> list[NDArray[np.float64]]:
    """The samples that the build has not seen, with a few of them twice: so many are needed."""
    every = np.load(DIGITS / "evaluation.npz")["x"][1::2].astype(np.float64)
    return [*every[:, np.newaxis], *every[:10, np.newaxis]]


def seen(
    made: Contents, samples: list[NDArray[np.float64]], change: Change
) -> tuple[dict[str, float], dict[str, float]]:
    """What is said of a device that was given these samples: how far they have moved, what is clipped."""
    quality = Quality(calibration.parse(made.calibration), {s.name: s.inner for s in made.manifest.interface.inputs})
    [wanted] = made.manifest.interface.accepts.values()
    with Session(made.model, made.manifest.interface, made.manifest.engines) as session:
        for sample in samples:
            given = change(sample)
            given = np.clip(np.rint(given), 0, 255) if wanted.dtype == "uint8" else given
            x = given.astype(wanted.dtype)
            quality.look(x, session.interface.feeds(x), session.predict(x), 10**12)
            quality._left = 1  # every call, whatever the clock says
    counters, found = quality.take()
    return drift.scores(found), drift.clipped(counters)


def moves(top: float) -> dict[str, Change]:
    """Data of numbers from 0 to ``top``, moved."""
    rng = np.random.default_rng(0)
    return {
        "brighter": lambda x: np.minimum(x + top / 4, top),
        "darker": lambda x: x / 2,
        "noisy": lambda x: np.clip(x + rng.normal(0, top / 8, x.shape), 0, top),
        "three times": lambda x: x * 3,
    }


def check(made: Contents, samples: list[NDArray[np.float64]], top: float) -> None:
    """Data that moved are told, data that did not are not."""
    same, clipped = seen(made, samples, lambda x: x)
    assert {"input", "detail", "confidence", "entropy"} == {key.partition(":")[0] for key in same}
    assert max(same.values()) < drift.MODERATE
    assert clipped.get("inputs", 0) == 0
    for name, change in moves(top).items():
        moved, clipped = seen(made, samples, change)
        assert max(moved.values()) > drift.LARGE, name
        if made.manifest.interface.inputs[0].dtype == "float32":
            assert (clipped["inputs"] > 0.2) == (name == "three times")


def test_digits_that_move_are_told(made: Contents) -> None:
    check(made, others(), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("task", [RESNET8, RESNET20], ids=["resnet8-tflite", "resnet20-onnx"])
def test_photos_that_move_are_told(task: Task, tmp_path: Path) -> None:
    order = task.order(tmp_path, precisions=(Precision.INT8,))
    made = build(open_model(shared(task.model)), targets.load("pi"), order, lambda line: None).contents
    assert made
    photos = np.load(shared("data/cifar10.npz"))["test_x"].astype(np.float64)
    check(made, list(photos[1:800:2, np.newaxis]), 255.0)


def test_what_it_holds(made: Contents) -> None:
    """The quantizer's range of a float input in int8; logits, and where they are cut."""
    found = calibration.parse(made.calibration)
    image, logits = found.inputs["image"], found.outputs["logits"]
    assert (image.low, image.high) == pytest.approx((-0.5 / 255, 255.5 / 255), rel=1e-3)
    assert set(image.bins) == {"input", "detail"}
    assert (logits.softmax, logits.axis, set(logits.bins)) == (True, -1, {"confidence", "entropy"})
    assert logits.low is not None
    assert logits.high is not None
    assert logits.low < 0 < logits.high
    for spread in (image, logits):
        for each in spread.bins.values():
            assert sum(each.shares) == pytest.approx(1, abs=1e-4)


def test_the_same_inputs_give_the_same_bytes_and_few(made: Contents, tmp_path: Path) -> None:
    again = contents(tmp_path)
    assert again.calibration == made.calibration
    assert len(made.calibration) < MOST_BYTES
    assert calibration.dump(calibration.parse(made.calibration)) == made.calibration
    assert again.twin is None


def test_the_twin_is_the_float_model_where_it_is_wanted(made: Contents, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", make_key(tmp_path / "key"), made)
    vectors = golden.parse(made.golden)
    with shadow._twin(bundle) as twin:
        assert len(bundle.read(bundle.layer(f"{shadow.TWIN_TYPE}+onnx"))) > 2 * len(made.model)
        for vector in vectors:
            assert max_abs_error(vector.reference, twin.predict(vector.inputs)) < 1e-4


def test_of_few_samples_only_the_ranges_are_kept() -> None:
    """Shares would be chance."""
    watch = profile.Watch()
    for turn in range(profile.LEAST_SAMPLES - 1):
        watch.see(np.full((1, 8), turn, np.float32), turn)
    assert profile._of_input(watch, TensorSpec("x", "float32", (1, 8)), None) == calibration.Spread({}, 0.0, 28.0)


@pytest.mark.parametrize("change", [lambda y: y, lambda y: y * np.nan, lambda y: y * np.inf, lambda y: y * 0])
def test_outputs_of_any_size_and_of_no_numbers(change: Change) -> None:
    """As of a detector that finds now many, now none."""
    watch, rng = profile.Watch(axis=-1), np.random.default_rng(0)
    with np.errstate(all="ignore"):
        for turn in range(3 * profile.LEAST_SAMPLES):
            watch.see(change(rng.normal(size=(turn % 2, turn % 5))), turn)
        found = profile._of_output(watch, TensorSpec("y", "float32", (None, None)), None)
    assert calibration.parse(calibration.dump(calibration.Calibration({}, {"y": found}))).outputs == {"y": found}


def test_what_is_clipped_as_a_rule_is_no_news() -> None:
    held = Held(-1.0, 3.0, 0.015)
    spec, watch = TensorSpec("y", "float32", (1, 4)), profile.Watch()
    for turn in range(profile.LEAST_SAMPLES):
        watch.see(np.array([[0.0, 1.0, 2.0, 3.0 if turn == 0 else 2.5]], np.float32), turn)
    assert profile._of_output(watch, spec, held).high == pytest.approx(3.0 - 0.0075)
    watch.see(np.full((1, 4), 3.0, np.float32), 0)
    assert profile._of_output(watch, spec, held).high is None
