from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ConversionError
from edgekit.model import open_model
from edgekit.passes import features_tflite, head
from edgekit.passes.proof import load
from edgekit_train import heads
from edgekit_train.features import rows as rows_of
from tests.lab.models import RESNET8, RESNET8_INT8, RESNET8_KERAS, VWW, shared
from tests.test_head_onnx import learned


@pytest.mark.parametrize("task", [RESNET8, VWW], ids=["resnet8", "vww"])
def test_a_merged_model_computes_what_backbone_and_head_do(task: object, tmp_path: Path) -> None:
    source = open_model(shared(task.model))  # type: ignore[attr-defined]
    weights = head.weights_of(source)
    size, classes = weights["head.0.weight"].shape
    given = {name: array * 0.1 for name, array in learned(size, classes).items()}
    made = head.merged(source, given, tmp_path / "merged.tflite")
    again = head.merged(made, weights, tmp_path / "again.tflite")
    told = features_tflite.write(source, tmp_path / "backbone.tflite")
    whole, back, own, parts = (
        load(each) for each in (made, again, source, replace(source, path=tmp_path / "backbone.tflite"))
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        feed = {source.inputs[0].inner: rng.random([size or 1 for size in source.inputs[0].shape], np.float32)}
        want = heads.logits(heads.layers(given), rows_of(replace(told, size=size), parts.run(feed)))
        got = next(iter(whole.run(feed).values()))
        assert np.allclose(got, heads.probabilities(want), atol=1e-4)
        assert np.allclose(*(next(iter(each.run(feed).values())) for each in (own, back)), atol=1e-6)
    assert abs(again.size - source.size) < 4000  # the old weights are not left in it


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = open_model(shared(RESNET8.model))
    with pytest.raises(ConversionError, match="2 layers does not fit into TFLite"):
        head.merged(source, learned(64, 8, 10), tmp_path / "m.tflite")
    with pytest.raises(ConversionError, match="64 features and 10 classes"):
        head.merged(source, learned(64, 9), tmp_path / "m.tflite")
    with pytest.raises(ConversionError, match="give the float model"):
        head.weights_of(open_model(shared(RESNET8_INT8.model)))
    with pytest.raises(ConversionError, match="not into keras"):
        head.weights_of(
            replace(open_model(shared(RESNET8.model)), format=open_model(shared(RESNET8_KERAS.model)).format)
        )
