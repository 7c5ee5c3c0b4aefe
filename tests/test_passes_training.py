"""Training signatures through a build, and what was learned by them back into the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import target as targets
from edgekit.budget import Budget
from edgekit.build import Outcome, build
from edgekit.building.order import Order
from edgekit.errors import ConversionError
from edgekit.federated.merging import SIGNATURE, head_of
from edgekit.federated.rounds.beginning import Sources
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.round import Subject
from edgekit.federated.strategies import named
from edgekit.formats import tflite_file, tflite_signatures
from edgekit.model import Format, Model, open_model
from edgekit.passes import head, training, training_tflite
from edgekit.precision import Precision
from edgekit.store import Store
from edgekit_runtime.session import Session
from edgekit_train.signature_trainer import SignatureTrainer, weights_of
from edgekit_train.trainer import added
from edgekit_train.update import Weights
from tests.lab.models import DIGITS, context, outputs_of, tensorflow
from tests.lab.trainable import by_tensorflow, clusters, start, trainable


def order(folder: Path, **changes: Any) -> Order:
    for seed, name in ((3, "calibration"), (4, "evaluation")):
        x, y = clusters(100, seed)
        np.savez(folder / f"{name}.npz", x=x, labels=y)
    return replace(Order("clusters", "1", "calibration.npz", "evaluation.npz", folder, 1), **changes)


def built(model: Model, folder: Path, target: str = "pi", **changes: Any) -> Outcome:
    return build(model, targets.load(target), order(folder, **changes), lambda line: None)


def learned(model: Model) -> Weights:
    x, y = clusters(100)
    data = model.path.read_bytes()
    fitted = SignatureTrainer(data, 3).fit(start(), zip(x, y, strict=True), {"epochs": 10, "rate": 0.2})
    return added(start(), fitted.delta)


class TestBuild:
    def test_what_is_shipped_serves_in_float_and_can_be_trained(self, tmp_path: Path) -> None:
        outcome = built(open_model(trainable(tmp_path / "m.tflite")), tmp_path)
        made = outcome.contents
        assert made is not None
        assert [each.name for each in outcome.measured] == ["tflite-float32"]
        assert (made.manifest.precision, made.manifest.provenance["passes"]) == ("float32", [tflite_signatures.KEPT])
        assert outcome.verdict.reasons == ()
        x, _ = clusters(20)
        with Session(made.model, made.manifest.interface, made.manifest.engines) as session:
            given = np.concatenate([session.predict(each[None])["logits"] for each in x])
            together = session.predict(x)["logits"]
        assert np.allclose(given, x @ start()["weight"].T, atol=1e-5)
        assert np.allclose(given, together, atol=1e-5)
        assert all(np.array_equal(weights_of(made.model)[name], array) for name, array in start().items())

    def test_it_is_held_to_its_budget_as_any_other(self, tmp_path: Path) -> None:
        small = Budget(max_size_mib=0.001)
        outcome = built(open_model(trainable(tmp_path / "m.tflite")), tmp_path, budget=small)
        assert outcome.contents is None
        assert "allowed are 0.001" in outcome.verdict.reasons[0]

    def test_sizes_may_be_fixed(self, tmp_path: Path) -> None:
        outcome = built(open_model(trainable(tmp_path / "m.tflite")), tmp_path, shapes={"x": (1, 8)})
        assert outcome.contents
        assert outcome.contents.manifest.interface.inputs[0].shape == (1, 8)
        assert weights_of(outcome.contents.model).keys() == start().keys()

    @pytest.mark.parametrize(
        ("target", "changes", "told"),
        [
            ("pi", {"precisions": (Precision.INT8,)}, "variables cannot be quantized: no int8 — build it with --prec"),
            ("pi", {"formats": (Format.ONNX,)}, "no way from a tflite model with training signatures to onnx for"),
            ("jetson", {}, "training signatures to onnx for jetson-orin — export it without them"),
            ("pi", {"features": True}, "has no features to train on"),
        ],
    )
    def test_what_cannot_be_is_a_line(self, tmp_path: Path, target: str, changes: dict[str, Any], told: str) -> None:
        with pytest.raises(ConversionError, match=told):
            built(open_model(trainable(tmp_path / "m.tflite")), tmp_path, target, **changes)

    def test_float_among_others_that_are_asked_for_ships(self, tmp_path: Path) -> None:
        asked = (Precision.INT8, Precision.FLOAT32)
        outcome = built(open_model(trainable(tmp_path / "m.tflite")), tmp_path, precisions=asked)
        assert outcome.contents
        assert outcome.verdict.reasons == ("int8: there is no such candidate",)

    def test_the_second_build_ships_the_same(self, tmp_path: Path) -> None:
        model = open_model(trainable(tmp_path / "m.tflite"))
        one, two = (built(model, tmp_path, cache=tmp_path / "cache").contents for _ in range(2))
        assert one
        assert two
        assert (one.model, one.manifest.provenance["passes"]) == (two.model, two.manifest.provenance["passes"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return by_tensorflow(tmp_path_factory.mktemp("tensorflow"))


@tensorflow
@pytest.mark.slow
class TestTensorFlow:
    """What TensorFlow itself has written."""

    def test_a_saved_model_is_converted_with_its_signatures(self, written: tuple[Path, Path], tmp_path: Path) -> None:
        made = built(open_model(written[0]), tmp_path).contents
        assert made
        assert made.manifest.provenance["passes"] == ["savedmodel-to-tflite", tflite_signatures.KEPT]
        assert self.answers(made.model, tmp_path) == self.answers(written[1].read_bytes(), tmp_path)
        x, y = clusters(95)
        trained = [
            SignatureTrainer(data, 3).fit(weights_of(data), zip(x, y, strict=True), {"epochs": 2})
            for data in (made.model, written[1].read_bytes())
        ]
        assert trained[0].metrics == trained[1].metrics

    def test_what_was_learned_goes_into_its_file(self, written: tuple[Path, Path], tmp_path: Path) -> None:
        source, (x, y) = open_model(written[1]), clusters(95)
        begun, data = training_tflite.weights_of(source), written[1].read_bytes()
        fitted = SignatureTrainer(data, 3).fit(begun, zip(x, y, strict=True), {"epochs": 20, "rate": 0.2})
        wanted = added(begun, fitted.delta)
        merged = head.merged(source, wanted, tmp_path / "merged.tflite")
        assert all(weights_of(merged.path.read_bytes())[n].tobytes() == array.tobytes() for n, array in wanted.items())
        made = built(merged, tmp_path).contents
        assert made
        with Session(made.model, made.manifest.interface, made.manifest.engines) as session:
            given = session.predict(x)["logits"]
        by_hand = np.maximum(x @ wanted["a"] + wanted["c"], 0) @ wanted["b"] + wanted["d"]
        assert np.allclose(given, by_hand, atol=1e-4)
        assert np.mean(given.argmax(1) == y) > 0.8

    def test_a_saved_model_that_is_asked_for_in_int8_is_refused(
        self, written: tuple[Path, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(
            ConversionError, match="^saved: has training signatures, whose variables cannot be quantized"
        ):
            built(open_model(written[0]), tmp_path, precisions=(Precision.INT8,))
        with pytest.raises(ConversionError, match="saved: is no TFLite file with the signatures"):
            training_tflite.weights_of(open_model(written[0]))

    def answers(self, data: bytes, folder: Path) -> list[list[float]]:
        (folder / "asked.tflite").write_bytes(tflite_file.serving_first(data))
        given = outputs_of(open_model(folder / "asked.tflite"), {"x": clusters(1)[0]})
        return [array.tolist() for array in given.values()]


def renamed(path: Path, change: Callable[[Any], None]) -> Model:
    document = tflite_file.unpacked(path.read_bytes())
    change({each.signatureKey.decode(): each for each in document.signatureDefs})
    path.write_bytes(tflite_file.packed(document))
    return open_model(path)


def call(entries: Any, old: bytes, new: bytes) -> None:
    next(each for each in entries if each.name == old).name = new


class TestSignaturesThatDoNotTrain:
    def check(self, model: Model, folder: Path, told: str) -> None:
        with pytest.raises(ConversionError, match=told) as caught:
            training.run(model, context(folder, "pi", order(folder)))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda of: call(of["train"].outputs, b"loss", b"cost"), "'train' gives nothing of it, where .* loss"),
            (lambda of: call(of["train"].inputs, b"y", b"label"), "'train' takes label, rate, x, where .* rate, x, y"),
            (lambda of: call(of["restore"].inputs, b"bias", b"b"), "'restore' takes b, weight, where .* bias, weight"),
        ],
    )
    def test_ends_of_other_names(self, tmp_path: Path, change: Callable[[Any], None], told: str) -> None:
        self.check(renamed(trainable(tmp_path / "m.tflite"), change), tmp_path, f"of no use: signature {told}")

    def test_what_serves_takes_none_of_what_is_trained(self, tmp_path: Path) -> None:
        model = open_model(trainable(tmp_path / "m.tflite", frozen=True))
        self.check(model, tmp_path, "what it serves takes none of the variables that 'weights' gives — export both")

    def test_a_weight_that_is_not_restored(self, tmp_path: Path) -> None:
        """Its graph assigns one of the variables only."""
        path = trainable(tmp_path / "m.tflite")
        document = tflite_file.unpacked(path.read_bytes())
        restore = document.subgraphs[0]
        assigning = [each for each in restore.operators if len(each.inputs) == 2 and not len(each.outputs)]
        restore.operators = [each for each in restore.operators if each is not assigning[1]]
        path.write_bytes(tflite_file.packed(document))
        self.check(open_model(path), tmp_path, "of no use: signature 'restore' does not set weight to what it takes")

    def test_weights_of_one_shape_that_are_restored_to_each_other(self, tmp_path: Path) -> None:
        """Both are zeros at first, and would be the same again if both were set to the same."""
        model = open_model(trainable(tmp_path / "m.tflite", crossed=True))
        self.check(model, tmp_path, "signature 'restore' does not set bias, second to what it takes")

    def test_what_serves_is_no_classifier(self, tmp_path: Path) -> None:
        model = open_model(trainable(tmp_path / "m.tflite"))
        scalar = replace(model, outputs=(replace(model.outputs[0], shape=()),))
        self.check(scalar, tmp_path, "of no use: what serves has not one input, and a number for each class")

    def test_samples_of_another_size_than_it_trains_on(self, tmp_path: Path) -> None:
        path = trainable(tmp_path / "m.tflite")
        document = tflite_file.unpacked(path.read_bytes())
        serving = document.subgraphs[1]
        serving.tensors[serving.inputs[0]].shape, serving.tensors[serving.inputs[0]].shapeSignature = [2, 8], None
        path.write_bytes(tflite_file.packed(document))
        model = open_model(path)
        rows = replace(model, inputs=(replace(model.inputs[0], shape=(None, 7)),))
        given = order(tmp_path)
        np.savez(tmp_path / "calibration.npz", x=np.zeros((3, 7), np.float32))
        with pytest.raises(ConversionError, match=r"of no use: .*8"):
            training.run(rows, context(tmp_path, "pi", given))

    def test_a_model_without_them_stays_as_it_is(self, tmp_path: Path) -> None:
        model = open_model(DIGITS / "digits.onnx")
        assert training.run(model, context(tmp_path, "pi", order(tmp_path))) is model


class TestMerging:
    @pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_a_merged_file_answers_and_serves_what_was_learned(self, tmp_path: Path, shared: bool) -> None:
        """Also where the numbers of the bias lie in one buffer with others, which stay."""
        source = open_model(trainable(tmp_path / "m.tflite", shared=shared))
        wanted = learned(source)
        merged = head.merged(source, wanted, tmp_path / "merged.tflite")
        assert merged.lineage == ("merge-weights",)
        answered = weights_of(merged.path.read_bytes())
        assert all(answered[name].tobytes() == array.tobytes() for name, array in wanted.items())
        x, y = clusters(200, 9)
        given = np.concatenate([outputs_of(merged, {"x": each[None]})["logits"] for each in x])
        assert np.allclose(given, x @ wanted["weight"].T + wanted["bias"], atol=1e-5)
        before = np.concatenate([outputs_of(source_first(source), {"x": each[None]})["logits"] for each in x])
        assert np.mean(given.argmax(1) == y) > np.mean(before.argmax(1) == y) + 0.2
        back = head.merged(merged, start(), tmp_path / "back.tflite")
        assert all(np.array_equal(weights_of(back.path.read_bytes())[name], array) for name, array in start().items())
        assert back.size <= merged.size + 64

    def test_it_goes_on_learning_from_there(self, tmp_path: Path) -> None:
        source = open_model(trainable(tmp_path / "m.tflite"))
        merged = head.merged(source, learned(source), tmp_path / "merged.tflite").path.read_bytes()
        x, y = clusters(100)
        first = SignatureTrainer(source.path.read_bytes(), 3).fit(start(), zip(x, y, strict=True), {"epochs": 1})
        again = SignatureTrainer(merged, 3).fit(weights_of(merged), zip(x, y, strict=True), {"epochs": 1})
        assert again.metrics["loss_before"] < first.metrics["loss_before"] / 2

    def test_what_was_merged_is_built_as_any_other(self, tmp_path: Path) -> None:
        source = open_model(trainable(tmp_path / "m.tflite"))
        outcome = built(head.merged(source, learned(source), tmp_path / "merged.tflite"), tmp_path)
        assert outcome.contents
        assert outcome.contents.manifest.provenance["passes"] == ["merge-weights", tflite_signatures.KEPT]

    def test_what_cannot_be_written_is_refused_in_a_line(self, tmp_path: Path) -> None:
        computed = open_model(trainable(tmp_path / "computed.tflite", computed=True))
        with pytest.raises(
            ConversionError, match="written into it: 'bias' begins with no constant of float32 — restore"
        ):
            head.merged(computed, start(), tmp_path / "merged.tflite")
        model = open_model(trainable(tmp_path / "m.tflite"))
        with pytest.raises(ConversionError, match=r"'weight' is of the shape \(3, 8\), not \(3, 9\)"):
            head.merged(model, {**start(), "weight": np.zeros((3, 9), np.float32)}, tmp_path / "merged.tflite")
        for path in (computed.path, model.path):
            assert weights_of(path.read_bytes()).keys() == start().keys()

    def test_a_head_is_none_of_its_weights(self, tmp_path: Path) -> None:
        model = open_model(trainable(tmp_path / "m.tflite"))
        one = {"head.0.weight": np.zeros((8, 3), np.float32), "head.0.bias": np.zeros(3, np.float32)}
        with pytest.raises(ConversionError, match="training signatures — edgekit round start --trainer signature"):
            head.merged(model, one, tmp_path / "merged.tflite")
        with pytest.raises(ConversionError, match="its weights are those of its training signatures"):
            head.weights_of(model)


def source_first(model: Model) -> Model:
    path = model.path.with_name("first.tflite")
    path.write_bytes(tflite_file.serving_first(model.path.read_bytes()))
    return open_model(path)


class TestRound:
    def begun(self, model: Model | None, folder: Path) -> Weights:
        subject, strategy = Subject("p", "clusters", "sha256:0", SIGNATURE), named("fedavg", {})
        with Store(f"sqlite:///{folder}/rounds.db") as store:
            return Sources(Book(store), model, never).start(subject, strategy, None).state.weights

    def test_it_begins_with_the_weights_of_the_file(self, tmp_path: Path) -> None:
        found = self.begun(open_model(trainable(tmp_path / "m.tflite")), tmp_path)
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in start().items()
        }

    def test_what_devices_learned_is_what_is_merged(self, tmp_path: Path) -> None:
        model = open_model(trainable(tmp_path / "m.tflite"))
        weights = start()
        assert head_of(model, SIGNATURE, weights, never) is weights
        assert training_tflite.takes(model, start())

    def test_of_a_model_without_signatures_it_says_what_is_needed(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConversionError, match="digits.onnx: is no TFLite file with the signatures restore, train, w"
        ):
            self.begun(open_model(DIGITS / "digits.onnx"), tmp_path)


def never(model: Model) -> Weights:
    raise AssertionError
