"""Builds of real models, measured on real data: what they come to is held against published accuracies."""

from __future__ import annotations

import json
import platform
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit import target as targets
from edgekit.budget import Budget
from edgekit.build import Outcome, build
from edgekit.building.guard import SLOWER
from edgekit.building.order import Order
from edgekit.errors import ConfigError, ConversionError, DataError, ExtraNotInstalled, ModelError
from edgekit.model import open_model
from edgekit.precision import Calibrator, Precision
from edgekit_runtime import golden
from edgekit_runtime.compare import max_abs_error
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.session import Session
from tests.lab.models import (
    CIFAR,
    DIGITS,
    DSCNN_INT8,
    IMAGENET_H5,
    RESNET8,
    RESNET8_H5,
    RESNET8_INT8,
    RESNET8_KERAS,
    RESNET20,
    TEXTLINE,
    UNEVEN,
    VWW,
    VWW_H5,
    Task,
    dense,
    digits_order,
    in_keras,
    onnx_model,
    samples,
    shared,
    tensorflow,
    tflite_model,
    uneven_digits,
)

HERE = f"generic-{platform.machine().replace('_', '-')}"
JUDGED = "latency is this host's, of another architecture than the target: shown, not judged"


def quiet(line: str) -> None:
    pass


def built(path: Path, order: Order, target: str = "pi") -> Outcome:
    return build(open_model(path), targets.load(target), order, quiet)


def digits(target: str = "pi", **changes: Any) -> Outcome:
    return built(DIGITS / "digits.onnx", digits_order(**changes), target)


def made_up(folder: Path, **changes: Any) -> Order:
    data = samples(folder / "data.npz", x=(8,))
    return replace(Order("app", "1", data, data, folder, 1), **changes)


def check(task: Task, outcome: Outcome) -> None:
    """Float is as published; what was chosen holds its budget; what was not has a reason."""
    baseline, *others = outcome.measured
    assert baseline.accuracy == pytest.approx(task.accuracy, abs=0.0006)
    assert (baseline.agreement, baseline.max_abs_error) == (1.0, 0.0)
    assert outcome.verdict.ok
    (chosen,) = [each for each in outcome.measured if each.chosen]
    for each in others:
        assert each.accuracy is not None
        told = [reason for reason in outcome.verdict.reasons if reason.startswith(f"{each.name}: ")]
        assert each.accuracy >= task.accuracy - 0.011 or told
        large = ("float32", "int8-dynamic")  # which leaves convolutions in float
        assert each.precision in large or each.size_bytes < 0.65 * baseline.size_bytes
    blame = f"{chosen.name}: most noise "
    assert not any(r.startswith(f"{chosen.name}: ") and not r.startswith(blame) for r in outcome.verdict.reasons)
    serves(outcome)


def serves(outcome: Outcome) -> None:
    """The bundle's own model gives, for its golden vectors, what they say."""
    assert outcome.contents
    manifest = outcome.contents.manifest
    vectors = golden.parse(outcome.contents.golden)
    assert len(vectors) == manifest.proof.vectors
    with Session(outcome.contents.model, manifest.interface, manifest.engines) as session:
        for vector in vectors:
            assert max_abs_error(vector.expected, session.predict(vector.inputs)) <= manifest.proof.max_abs_error
            assert max_abs_error(vector.reference, vector.expected) < np.inf


QUICK = [
    pytest.param(RESNET8, "pi", id="resnet8-pi"),
]
SLOW = [
    pytest.param(RESNET20, "pi", id="resnet20-pi"),
    pytest.param(VWW, "pi", id="vww-pi"),
    pytest.param(RESNET20, "jetson", id="resnet20-jetson"),
    pytest.param(RESNET20, HERE, id="resnet20-here"),
    pytest.param(RESNET8, HERE, id="resnet8-here"),
    pytest.param(TEXTLINE, "pi", id="textline-pi"),
    pytest.param(TEXTLINE, "jetson", id="textline-jetson"),
]
KERAS = [
    pytest.param(task, target, id=f"{Path(task.model).name}-{target}")
    for task in (RESNET8_KERAS, RESNET8_H5, VWW_H5, IMAGENET_H5)
    for target in ("pi", "jetson")
]


class TestPretrained:
    @pytest.mark.parametrize(("task", "target"), QUICK)
    def test_float_is_as_published_and_what_ships_is_nearly_as_good(
        self, tmp_path: Path, task: Task, target: str
    ) -> None:
        check(task, built(shared(task.model), task.order(tmp_path), target))

    @pytest.mark.slow
    @pytest.mark.parametrize(("task", "target"), SLOW)
    def test_so_it_is_for_others(self, tmp_path: Path, task: Task, target: str) -> None:
        check(task, built(shared(task.model), task.order(tmp_path), target))

    @tensorflow
    @pytest.mark.slow
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize(("task", "target"), KERAS)
    def test_so_it_is_for_keras_models(self, tmp_path: Path, task: Task, target: str) -> None:
        outcome = built(shared(task.model), task.order(tmp_path), target)
        formats = ["tflite", "tflite", "onnx", "onnx"] if target == "pi" else ["onnx", "onnx"]
        assert [each.format for each in outcome.measured[: len(formats)]] == formats
        assert all(
            each.accuracy == outcome.measured[0].accuracy for each in outcome.measured if each.precision == "float32"
        )
        check(task, outcome)

    @pytest.mark.parametrize("task", [RESNET8_INT8, DSCNN_INT8], ids=["resnet8", "dscnn"])
    def test_a_model_that_is_quantized_already_ships_as_it_is(self, tmp_path: Path, task: Task) -> None:
        path = shared(task.model)
        outcome = built(path, task.order(tmp_path))
        (only,) = outcome.measured
        assert (only.name, only.chosen, only.accuracy) == (
            "tflite-int8",
            True,
            pytest.approx(task.accuracy, abs=0.0006),
        )
        assert outcome.contents
        assert outcome.contents.model == path.read_bytes()
        interface = outcome.contents.manifest.interface
        assert [spec.dtype for spec in (*interface.inputs, *interface.outputs)] == ["int8", "int8"]
        serves(outcome)

    def test_so_it_does_where_latency_counts(self, tmp_path: Path) -> None:
        outcome = built(shared(RESNET8_INT8.model), RESNET8_INT8.order(tmp_path), HERE)
        assert [each.chosen for each in outcome.measured] == [True]

    @pytest.mark.slow
    def test_uint8_images_and_labels_that_count_from_a_background_class(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """MobileNetV2 of 2018: uint8 in and out, class 0 is 'background', so its data is a function."""
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "imagenet_with_background.py").write_text(
            "import csv\nfrom pathlib import Path\nimport numpy as np\nfrom PIL import Image\n"
            f"folder = Path({str(shared('data/imagenet_samples'))!r})\n"
            "with (folder / 'labels.csv').open() as file:\n"
            "    rows = list(csv.DictReader(file))\n"
            "def samples(split):\n"
            "    for row in rows:\n"
            "        if row['split'] == split:\n"
            "            with Image.open(folder / row['file']) as image:\n"
            "                yield np.asarray(image.convert('RGB')), int(row['label']) + 1\n"
            "def calibration():\n    return samples('calib')\n"
            "def evaluation():\n    return samples('test')\n"
        )
        sources = [f"imagenet_with_background:{role}" for role in ("calibration", "evaluation")]
        order = Order("app", "1", *sources, tmp_path, 1, preprocess={"input": Preprocess(crop=(224, 224))})
        outcome = built(shared("mobilenetv2_imagenet_quant/mobilenet_v2_1.0_224_quant_uint8.tflite"), order)
        assert outcome.measured[0].accuracy == pytest.approx(0.870, abs=0.0006)
        serves(outcome)


class TestWhatGoesIn:
    def test_the_manifest_says_all_that_a_device_needs(self) -> None:
        contents = digits("jetson", version="1.2", now_s=77).contents
        assert contents
        manifest = contents.manifest
        jetson = targets.load("jetson")
        assert (manifest.app, manifest.version, manifest.sequence, manifest.target, manifest.arch) == (
            "digits",
            "1.2",
            77,
            "jetson-orin",
            "aarch64",
        )
        assert (manifest.format, manifest.precision) == ("onnx", "int8")
        (need,) = manifest.engines
        assert (need.name, need.version, need.providers, need.threads) == (
            "onnxruntime",
            jetson.engines[0].version,
            jetson.engines[0].providers,
            jetson.threads,
        )
        assert manifest.budget == {"max_accuracy_drop": 0.01, "min_agreement": 0.9}
        assert [each["name"] for each in manifest.verdict["candidates"]] == ["onnx-float32", "onnx-int8"]
        source = open_model(DIGITS / "digits.onnx")
        assert manifest.provenance["source"] == {"name": "digits.onnx", "format": "onnx", "digest": source.digest}
        assert manifest.provenance["passes"] == ["clean-onnx", "quantize-onnx"]
        data = manifest.provenance["data"]
        assert [data[role]["digest"][:7] for role in ("calibration", "evaluation")] == ["sha256:"] * 2
        assert "onnxruntime" in manifest.provenance["tools"]

    def test_golden_vectors_are_spread_over_the_evaluation_samples_with_both_outputs(self) -> None:
        outcome = digits()
        assert outcome.contents
        vectors = golden.parse(outcome.contents.golden)
        with np.load(DIGITS / "evaluation.npz") as data:
            assert [np.array_equal(v.inputs["image"][0], data["x"][16 * i]) for i, v in enumerate(vectors)] == [
                True
            ] * 16
        assert all(v.expected.keys() == v.reference.keys() == {"logits"} for v in vectors)
        assert any((v.expected["logits"] != v.reference["logits"]).any() for v in vectors)

    def test_fewer_samples_than_vectors_are_all_taken(self, tmp_path: Path) -> None:
        data = samples(tmp_path / "few.npz", 3, x=(8,))
        outcome = built(dense(tmp_path / "m.onnx"), Order("app", "", data, data, tmp_path, 1, Budget(None, None)))
        assert outcome.contents
        assert len(golden.parse(outcome.contents.golden)) == 3

    def test_weights_beside_the_model_are_inside_the_bundle(self, tmp_path: Path) -> None:
        model = onnx.load(dense(tmp_path / "m.onnx"))
        onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        for precision in (Precision.FLOAT32, Precision.INT8):
            outcome = built(tmp_path / "m.onnx", made_up(tmp_path, precisions=(precision,)))
            assert outcome.contents
            (tmp_path / "w.bin").rename(tmp_path / "elsewhere")
            assert not onnx.load_from_string(outcome.contents.model).graph.initializer[0].external_data
            serves(outcome)
            (tmp_path / "elsewhere").rename(tmp_path / "w.bin")

    @pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
    def test_an_onnx_newer_than_the_target_reads_ships_in_the_targets_version(
        self, tmp_path: Path, precision: Precision
    ) -> None:
        path = dense(tmp_path / "m.onnx", opsets=[("", 21)], ir_version=10)
        contents = built(path, made_up(tmp_path, precisions=(precision,)), "jetson").contents
        assert contents
        document = onnx.load_from_string(contents.model)
        assert (document.ir_version, document.opset_import[0].version) == (8, 17)
        assert contents.manifest.provenance["passes"][0] == "fit-onnx"

    def test_an_app_without_labels_ships_by_agreement_and_says_so(self, tmp_path: Path) -> None:
        data = samples(tmp_path / "d.npz", labels=False, x=(8,))
        outcome = built(dense(tmp_path / "m.onnx"), Order("app", "", data, data, tmp_path, 1))
        assert [each.accuracy for each in outcome.measured] == [None, None]
        assert any(note.startswith("max_accuracy_drop was not judged") for note in outcome.verdict.notes)

    def test_several_inputs_and_outputs_of_a_tflite_model(self, tmp_path: Path) -> None:
        data = samples(tmp_path / "d.npz", first=(4,), second=(4,))
        order = Order("app", "", data, data, tmp_path, 1, Budget(None, None))
        for signatures in (("serving_default",), ()):
            names = ("first", "second") if signatures else ("in:0", "in:1")
            data = samples(tmp_path / "d.npz", 40, **dict.fromkeys(names, (4,)))
            outcome = built(tflite_model(tmp_path / "m.tflite", signatures), order)
            assert outcome.contents
            assert [spec.name for spec in outcome.contents.manifest.interface.inputs] == list(names)
            serves(outcome)


class TestChoice:
    def test_the_targets_first_precision_ships_and_foreign_latencies_are_noted(self) -> None:
        outcome = digits("jetson" if platform.machine() == "x86_64" else "generic-x86-64")
        assert [each.name for each in outcome.measured if each.chosen] == ["onnx-int8"]
        assert outcome.verdict.notes == (JUDGED,)

    def test_on_its_own_architecture_what_is_slower_is_passed_over(self) -> None:
        outcome = digits(HERE)
        float32, int8 = (each.latency_ms for each in outcome.measured)
        passed_over = int8.p50_low > SLOWER * float32.p50
        assert [each.precision for each in outcome.measured if each.chosen] == ["float32" if passed_over else "int8"]
        told = outcome.verdict.reasons if passed_over else outcome.verdict.notes
        assert len(told) == (int8.p50 > SLOWER * float32.p50)
        assert all(re.match(r"onnx-int8: \d+\.\d\d times as slow as float on this", each) for each in told)

    def test_one_precision_alone_may_be_asked_for(self) -> None:
        assert [(each.name, each.chosen) for each in digits(precisions=(Precision.FLOAT32,)).measured] == [
            ("onnx-float32", True)
        ]
        int8 = digits(HERE, precisions=(Precision.INT8,))
        assert [(each.name, each.chosen) for each in int8.measured] == [("onnx-float32", False), ("onnx-int8", True)]

    def test_nothing_holds_an_impossible_budget_and_each_candidate_says_why(self) -> None:
        outcome = digits("jetson", budget=Budget(max_size_mib=0.001))
        assert outcome.contents is None
        assert not any(each.chosen for each in outcome.measured)
        names = [reason.partition(": takes ")[0] for reason in outcome.verdict.reasons]
        assert names == ["onnx-float32", "onnx-int8", "onnx-float16"]
        assert any(
            each.startswith("nearest is onnx-int8, which would hold max_size_mib=0.0") for each in outcome.verdict.notes
        )

    def test_float_of_a_quantized_model_cannot_be_had_and_that_is_told(self, tmp_path: Path) -> None:
        path, order = shared(RESNET8_INT8.model), RESNET8_INT8.order(tmp_path)
        refused = built(path, replace(order, precisions=(Precision.FLOAT32,)))
        assert (refused.contents, refused.verdict.reasons) == (None, ("float32: the model is quantized already",))
        both = built(path, replace(order, precisions=(Precision.FLOAT32, Precision.INT8)))
        assert (bool(both.contents), both.verdict.reasons) == (True, ("float32: the model is quantized already",))

    def test_int8_is_refused_where_it_got_worse_and_float_ships(self, tmp_path: Path) -> None:
        """Ranges from black images are of no use for others."""
        np.savez(tmp_path / "black.npz", x=np.zeros((20, 1, 8, 8), np.float32))
        black = str(tmp_path / "black.npz")
        outcome = digits(calibration=black, precisions=(Precision.INT8, Precision.FLOAT32))
        assert [each.name for each in outcome.measured if each.chosen] == ["onnx-float32"]
        assert any(reason.startswith("onnx-int8: accuracy drops by ") for reason in outcome.verdict.reasons)
        alone = digits(calibration=black, precisions=(Precision.INT8,))
        assert alone.contents is None
        assert all(reason.startswith("onnx-int8: ") for reason in alone.verdict.reasons)

    def test_a_candidate_that_cannot_be_made_is_a_reason_and_the_others_go_on(self, tmp_path: Path) -> None:
        """A weight without a single number is of no harm to onnxruntime; its quantizer finds no scale for it."""
        rng = np.random.default_rng(0)
        weights = {"w": rng.normal(size=(8, 4)).astype(np.float32), "none": np.zeros((8, 0), np.float32)}
        nodes = [
            helper.make_node("Gemm", ["x", "w"], ["a"]),
            helper.make_node("Gemm", ["x", "none"], ["b"]),
            helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
        ]
        path = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, {"y": ["N", 4]}, weights)
        outcome = built(path, made_up(tmp_path), "jetson")
        assert [each.name for each in outcome.measured] == ["onnx-float32", "onnx-float16"]
        (reason,) = outcome.verdict.reasons
        assert reason.startswith("onnx-int8: m.onnx: onnxruntime's quantizer failed: ")
        alone = built(path, made_up(tmp_path, precisions=(Precision.INT8,)))
        assert alone.contents is None
        assert alone.verdict.reasons[0] == reason

    @tensorflow
    @pytest.mark.slow
    def test_a_format_that_fails_leaves_the_other(self, tmp_path: Path) -> None:
        """LiteRT allocates a free height and width as 1, less than the window of this model; onnxruntime doesn't."""
        make = (
            "import keras, sys\nfrom keras import layers\nx = keras.Input((None, None, 3), name='image')\n"
            "y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 5)(x))\nkeras.Model(x, y).save(sys.argv[1])"
        )
        in_keras(make, tmp_path / "m.keras").check_returncode()
        data = samples(tmp_path / "d.npz", image=(16, 16, 3))
        np.savez(tmp_path / "e.npz", image=np.random.default_rng(1).random((32, 16, 16, 3), np.float32))
        outcome = built(tmp_path / "m.keras", Order("app", "", data, "e.npz", tmp_path, 1, Budget(None, None)))
        assert [each.name for each in outcome.measured[:2]] == ["onnx-float32", "onnx-int8"]
        assert re.match(
            r"tflite-float32: m\.tflite: input image: .* leaves axes 1, 2 free, ", outcome.verdict.reasons[0]
        )
        assert not any(reason.startswith("tflite-int8") for reason in outcome.verdict.reasons)
        serves(outcome)


class TestMixed:
    """A model that int8 ruins: one channel is a thousand times as large as the others of its tensor."""

    @pytest.mark.parametrize("target", ["pi", pytest.param("jetson", marks=pytest.mark.slow)])
    def test_two_layers_in_float_save_it_and_are_told(self, tmp_path: Path, target: str) -> None:
        wanted = (Precision.INT8, Precision.MIXED)
        outcome = built(uneven_digits(tmp_path / "m.onnx"), digits_order(precisions=wanted), target)
        measured = {each.name: each for each in outcome.measured}
        assert measured["onnx-int8"].agreement < 0.2
        mixed = measured["onnx-mixed"]
        assert (mixed.chosen, mixed.float_layers) == (True, UNEVEN)
        assert mixed.agreement > 0.97
        assert mixed.size_bytes < measured["onnx-float32"].size_bytes
        (blame,) = [line for line in outcome.verdict.notes if line.startswith("onnx-mixed: most noise in the ")]
        assert all(layer in blame for layer in UNEVEN)
        assert outcome.contents
        assert outcome.contents.manifest.precision == "mixed"
        serves(outcome)

    @pytest.mark.slow
    @pytest.mark.parametrize("target", ["pi", "jetson"])
    def test_where_these_hold_nearly_all_of_the_weights_float16_ships(self, tmp_path: Path, target: str) -> None:
        outcome = built(uneven_digits(tmp_path / "m.onnx"), digits_order(), target)
        measured = {each.name: each for each in outcome.measured}
        assert [each.name for each in outcome.measured if each.chosen] == ["onnx-float16"]
        assert measured["onnx-float16"].size_bytes < 0.6 * measured["onnx-mixed"].size_bytes
        assert ("onnx-int8-dynamic" in measured) == (target == "pi")

    @pytest.mark.slow
    def test_why_is_in_the_bundle_layer_by_layer(self, tmp_path: Path) -> None:
        order = digits_order(precisions=(Precision.INT8, Precision.MIXED))
        contents = built(uneven_digits(tmp_path / "m.onnx"), order).contents
        assert contents
        layers: dict[str, Any] = {each["name"]: each for each in contents.manifest.provenance["layers"]}  # type: ignore[attr-defined]
        assert {name for name, each in layers.items() if each["precision"] == "float32"} == set(UNEVEN)
        assert all(layers[name]["sqnr_db"] < 5 for name in UNEVEN)
        assert all(each["sqnr_db"] > 20 for name, each in layers.items() if name not in UNEVEN)

    def test_int8_alone_is_refused_with_its_numbers(self, tmp_path: Path) -> None:
        order = digits_order(precisions=(Precision.INT8,))
        outcome = built(uneven_digits(tmp_path / "m.onnx"), order)
        assert outcome.contents is None
        drop, agreement = outcome.verdict.reasons
        assert re.fullmatch(r"onnx-int8: accuracy drops by 0\.\d{4} \(0\.9975 → 0\.\d{4}\), allowed is 0\.01", drop)
        assert re.fullmatch(r"onnx-int8: agrees with float on \d+\.\d\d%, needed are 90\.00%", agreement)
        (blame,) = [note for note in outcome.verdict.notes if note.startswith("onnx-int8: most noise is in ")]
        assert all(layer in blame for layer in UNEVEN)

    def test_where_it_is_too_large_the_largest_layers_are_told(self) -> None:
        notes = digits("jetson", budget=Budget(max_size_mib=0.001), precisions=(Precision.INT8,)).verdict.notes
        (blame,) = [note for note in notes if note.startswith("onnx-int8: the largest weights are those of ")]
        sizes = [float(size) for size in re.findall(r"\(([0-9.]+) KiB\)", blame)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes

    @pytest.mark.slow
    def test_it_is_not_tried_where_int8_holds_the_budget_or_is_only_too_large(self) -> None:
        for budget in (Budget(), Budget(max_size_mib=0.05)):
            names = [each.name for each in digits("jetson", budget=budget).measured]
            assert "onnx-int8" in names
            assert "onnx-mixed" not in names

    @pytest.mark.slow
    def test_so_it_is_for_tflite(self, tmp_path: Path) -> None:
        budget = Budget(max_accuracy_drop=0.002, min_agreement=0.99)
        order = RESNET8.order(tmp_path, budget=budget, precisions=(Precision.INT8, Precision.MIXED))
        outcome = built(shared(RESNET8.model), order)
        assert [each.name for each in outcome.measured if each.chosen] == ["tflite-mixed"]
        mixed = outcome.measured[-1]
        assert 0 < len(mixed.float_layers) < 15
        assert mixed.agreement >= 0.99
        serves(outcome)

    @pytest.mark.slow
    def test_where_few_answers_are_lacking_one_layer_in_float_brings_them(self, tmp_path: Path) -> None:
        outcome = built(shared(VWW.model), VWW.order(tmp_path, precisions=(Precision.INT8, Precision.MIXED)))
        measured = {each.name: each for each in outcome.measured}
        lacking = measured["tflite-float32"].accuracy - measured["tflite-int8"].accuracy  # type: ignore[operator]
        assert 0.01 < lacking < 0.04
        assert len(measured["tflite-mixed"].float_layers) == 1
        assert measured["tflite-mixed"].chosen
        serves(outcome)


class TestPrecisions:
    @pytest.mark.slow
    def test_those_that_are_asked_for_are_all_made(self) -> None:
        wanted = (Precision.INT16X8, Precision.WEIGHTS, Precision.FLOAT16, Precision.DYNAMIC)
        outcome = digits(precisions=wanted)
        assert [each.precision for each in outcome.measured] == ["float32", *(each.value for each in wanted)]
        assert [each.chosen for each in outcome.measured] == [False, True, False, False, False]
        assert all(each.agreement > 0.97 for each in outcome.measured)
        serves(outcome)

    def test_what_a_target_does_not_compute_is_a_reason_where_it_was_asked_for(self) -> None:
        outcome = digits("jetson", precisions=(Precision.DYNAMIC, Precision.FLOAT32))
        assert outcome.verdict.reasons[0] == "onnx-int8-dynamic: digits.onnx: TensorRT computes no dynamic int8"
        assert [each.name for each in outcome.measured if each.chosen] == ["onnx-float32"]

    @pytest.mark.parametrize("calibrator", Calibrator)
    def test_a_calibrator_that_is_asked_for_is_used(self, calibrator: Calibrator) -> None:
        outcome = digits("jetson", calibrators=(calibrator,), precisions=(Precision.INT8,))
        assert [each.calibrator for each in outcome.measured] == ["", calibrator.value]


class TestTrouble:
    def test_missing_data_is_told_before_any_work(self, tmp_path: Path) -> None:
        told: list[str] = []
        order = digits_order(evaluation="none.npz")
        with pytest.raises(DataError, match="none.npz: no such evaluation data"):
            build(open_model(DIGITS / "digits.onnx"), targets.load("pi"), order, told.append)
        assert told == []

    @pytest.mark.parametrize(
        ("name", "step", "told"),
        [
            ("nope", Preprocess(), "edgekit.toml: preprocess.nope: no such input — the model takes image"),
            ("image", Preprocess(mean=(1, 2)), "edgekit.toml: preprocess.image.mean: 2 numbers for 8 colours"),
            (
                "image",
                Preprocess(std=(1, 2), layout="NCHW"),
                "preprocess.image.std: 2 numbers for 1 colours — write one",
            ),
        ],
    )
    def test_preprocessing_that_does_not_fit_is_named_by_its_key(self, name: str, step: Preprocess, told: str) -> None:
        with pytest.raises(ConfigError) as caught:
            digits(preprocess={name: step})
        assert told in str(caught.value)
        assert caught.value.exit_code == 2

    def test_image_steps_for_a_model_without_images(self, tmp_path: Path) -> None:
        order = made_up(tmp_path, preprocess={"x": Preprocess(resize=(4, 4))})
        with pytest.raises(ConfigError, match=r"preprocess.x: is for images, the model takes x: float32 \[N, 8\]"):
            built(dense(tmp_path / "m.onnx"), order)

    def test_preprocessing_of_a_quantized_model_is_checked_as_well(self, tmp_path: Path) -> None:
        order = RESNET8_INT8.order(tmp_path, preprocess={"image": Preprocess()})
        with pytest.raises(ConfigError, match="preprocess.image: no such input"):
            built(shared(RESNET8_INT8.model), order)

    def test_images_that_come_out_in_a_size_that_the_model_does_not_take(self, tmp_path: Path) -> None:
        calibration, evaluation = CIFAR(tmp_path)
        step = replace(RESNET20.preprocess["image"], crop=(20, 20))
        order = Order("app", "", calibration, evaluation, tmp_path, 1, preprocess={"image": step})
        told = r"sample 0: input image: .*: preprocessing made it \[1, 3, 20, 20\] — correct resize or crop under"
        with pytest.raises(DataError, match=told):
            built(shared(RESNET20.model), order)

    def test_a_model_that_gives_nan_is_refused(self, tmp_path: Path) -> None:
        path = onnx_model(
            tmp_path / "m.onnx", [helper.make_node("Log", ["x"], ["y"])], {"x": ["N", 8]}, {"y": ["N", 8]}
        )
        np.savez(tmp_path / "d.npz", x=np.zeros((8, 8), np.float32))
        order = Order("app", "", "d.npz", "d.npz", tmp_path, 1)
        with pytest.raises(ModelError, match="sample 0: the float model gives NaN or infinity in 'y'"):
            built(path, order)

    def test_where_there_is_no_way_to_the_target(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match="no way from a quantized tflite model to onnx for jetson-orin"):
            built(shared("resnet8_cifar10/resnet8_cifar10_int8.tflite"), made_up(tmp_path), "jetson")

    def test_a_model_that_no_engine_loads_is_an_error_not_a_verdict(self, tmp_path: Path) -> None:
        node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="my.domain")
        opsets = [("", 17), ("my.domain", 1)]
        path = onnx_model(tmp_path / "m.onnx", [node], {"x": ["N", 8]}, {"y": ["N", 8]}, opsets=opsets)
        told = r"m\.onnx: no engine loads my\.domain\.NoSuchOperator \(node 'y'\)"
        with pytest.raises(Exception, match=told) as caught:
            built(path, made_up(tmp_path))
        assert "\n" not in str(caught.value)

    def test_keras_without_the_extra_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
            file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(ExtraNotInstalled, match=r"m.keras: .* — pip install 'edgekit-sdk\[tensorflow\]'"):
            built(tmp_path / "m.keras", made_up(tmp_path))


def test_the_interface_of_the_bundle_is_the_one_that_was_measured() -> None:
    outcome = digits()
    assert outcome.contents
    interface = outcome.contents.manifest.interface
    assert isinstance(interface, Interface)
    assert [str(spec) for spec in interface.inputs] == ["image: float32 [N, 1, 8, 8]"]
