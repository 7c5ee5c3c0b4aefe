from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.formats import tflite_file
from edgekit.model import open_model
from edgekit.passes.fit_tflite import fit
from edgekit_runtime.engines import EngineOptions, litert
from tests.lab.models import RESNET8, context, digits_order, shared

HYBRID = "dscnn_kws/dscnn_kws_float32.tflite"
"""Called float by its authors; five of its weights are int8."""


def test_weights_in_int8_become_float_and_compute_what_they_did(tmp_path: Path) -> None:
    source = open_model(shared(HYBRID))
    fitted = fit(source, context(tmp_path, "pi", digits_order()))
    assert not source.quantized
    assert fitted.lineage == ("fit-tflite",)
    document = tflite_file.unpacked(fitted.path.read_bytes())
    assert not any(tensor.type == 9 for tensor in document.subgraphs[0].tensors)
    assert fitted.size > 2.5 * source.size
    inputs = np.random.default_rng(0).normal(size=(1, 49, 10, 1)).astype(np.float32) * 10
    outputs = []
    for model in (source, fitted):
        engine = litert.load(model.path.read_bytes(), EngineOptions())
        outputs.append(engine.run({model.inputs[0].inner: inputs})[model.outputs[0].inner])
    assert np.abs(outputs[0] - outputs[1]).max() < 0.05  # the hybrid kernels quantize activations as they come


def test_a_model_in_float_stays_as_it_is(tmp_path: Path) -> None:
    source = open_model(shared(RESNET8.model))
    assert fit(source, context(tmp_path, "pi", digits_order())) is source


def test_a_model_that_computes_in_integers_stays_as_it_is(tmp_path: Path) -> None:
    source = open_model(shared("resnet8_cifar10/resnet8_cifar10_int8.tflite"))
    assert source.quantized
    assert fit(source, context(tmp_path, "pi", digits_order())) is source
