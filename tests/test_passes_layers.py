from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.errors import ConversionError
from edgekit.model import Model, open_model
from edgekit.passes import layers, proof
from edgekit.passes.layers import Layer, first_lost
from tests.lab.models import RESNET8, RESNET20, dense, shared, tflite_model

RNG = np.random.default_rng(0)


def layer(name: str, *inputs: str, shape: tuple[int, ...] = (1, 4)) -> Layer:
    return Layer(name, inputs, RNG.normal(size=shape).astype(np.float32))


def lost(source: list[Layer], kept: list[Any]) -> str | None:
    found = first_lost(source, kept)
    return found.name if found else None


class TestFirstLost:
    CHAIN = [layer("conv"), layer("bias", "conv"), layer("relu", "bias"), layer("pool", "relu")]

    def test_nothing_when_the_last_is_kept_whatever_was_fused(self) -> None:
        assert lost(self.CHAIN, [self.CHAIN[3].value]) is None

    @pytest.mark.parametrize(("kept", "name"), [([], "conv"), ([0], "bias"), ([1], "relu"), ([0, 2], "pool")])
    def test_the_one_behind_the_last_that_is_kept(self, kept: list[int], name: str) -> None:
        assert lost(self.CHAIN, [self.CHAIN[i].value for i in kept]) == name

    def test_a_branch_that_is_kept_does_not_hide_the_one_that_is_not(self) -> None:
        graph = [layer("a"), layer("left", "a"), layer("right", "a"), layer("sum", "left", "right")]
        assert lost(graph, [graph[0].value, graph[2].value]) == "left"

    @pytest.mark.parametrize("shape", [(1, 3, 5, 4), (1, 3, 7)])
    def test_the_layout_does_not_matter(self, shape: tuple[int, ...]) -> None:
        one = layer("conv", shape=shape)
        assert lost([one], [np.moveaxis(one.value, 1, -1)]) is None
        assert lost([one], [np.moveaxis(one.value, -1, 1)]) is None
        assert lost([one], [one.value[:, ::-1]]) == "conv"

    def test_numbers_that_are_all_the_same_tell_nothing(self) -> None:
        same = Layer("zeros", (), np.zeros((1, 4), np.float32))
        assert lost([same], []) is None
        assert lost([Layer("shape", (), np.array([1, 2]))], []) is None

    def test_rounding_is_no_difference(self) -> None:
        one = layer("conv")
        assert lost([one], [one.value * (1 + 1e-5)]) is None


def weakened(path: Path, name: str) -> Path:
    """ResNet-20 with one weight changed."""
    document = onnx.load(shared(RESNET20.model))
    for tensor in document.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array[0] += 1
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(document, path)
    return path


def image(model: Model) -> dict[str, Any]:
    return {model.inputs[0].inner: RNG.normal(size=(1, 3, 32, 32)).astype(np.float32)}


class TestOnModels:
    @pytest.mark.slow
    def test_the_layer_of_a_changed_weight_is_named(self, tmp_path: Path) -> None:
        source = open_model(shared(RESNET20.model))
        document = onnx.load(source.path)
        node = next(node for node in document.graph.node if node.output[0] == "/layer2/layer2.1/conv2/Conv_output_0")
        changed = open_model(weakened(tmp_path / "m.onnx", node.input[1]))
        probes = proof.probes_of(source, [image(source)])
        with pytest.raises(ConversionError) as caught:
            proof.prove(changed, probes, lambda index: layers.trace(source, probes[index].inputs))
        told = str(caught.value)
        assert told.startswith("m.onnx: output logits differs from the source by ")
        assert "; the first layer that differs: /layer2/layer2.1/conv2/Conv_output_0 — " in told

    def test_a_model_is_what_it_is(self) -> None:
        source = open_model(shared(RESNET20.model))
        probes = proof.probes_of(source, [image(source), image(source)])
        assert [probe.inputs[0].shape[0] for probe in probes] == [1, 1, 2]
        proof.prove(source, probes, lambda index: pytest.fail("nobody asks"))

    def test_all_layers_of_a_tflite_model(self) -> None:
        model = open_model(shared(RESNET8.model))
        image = RNG.random((1, 32, 32, 3)).astype(np.float32) * 255
        traced = layers.trace(model, [image])
        names = [layer.name.partition(";")[0] for layer in traced]
        assert names[0] == "model/activation/Relu"
        assert traced[-1].value.shape == (1, 10)
        assert first_lost(traced, [layer.value for layer in traced[:4]]) is traced[4]

    def test_where_the_layers_cannot_be_had_the_output_alone_is_named(self, tmp_path: Path) -> None:
        model = open_model(dense(tmp_path / "m.onnx"))
        probe = proof.Probe((RNG.random((1, 8)).astype(np.float32),), (np.zeros((1, 4), np.float32),))

        def none(index: int) -> list[Layer]:
            raise ConversionError("no layers")

        with pytest.raises(ConversionError, match=r"output scores differs from the source by [\d.]+ of a span of 0 — "):
            proof.prove(model, [probe], none)

    def test_a_model_that_is_no_chain(self, tmp_path: Path) -> None:
        model = open_model(tflite_model(tmp_path / "m.tflite"))
        one, two = (RNG.random((1, 4)).astype(np.float32) for _ in range(2))
        traced = layers.trace(model, [one, two])
        assert [layer.name for layer in traced] == ["out:0", "out:1"]
        assert np.allclose(traced[1].value, one - two)
