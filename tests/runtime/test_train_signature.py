from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit_runtime.errors import EngineError, InvalidInput
from edgekit_train.signature_trainer import SignatureTrainer
from edgekit_train.trainer import TrainingFailed, added
from tests.lab.models import RESNET8_INT8, shared, tensorflow
from tests.lab.trainable import by_tensorflow, clusters
from tests.runtime.learning import Rows, session


def rows(count: int = 95) -> Rows:
    return Rows(*clusters(count))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("signature")
    return by_tensorflow(folder)[1].read_bytes()


@tensorflow
@pytest.mark.slow
def test_litert_trains_by_the_signatures_of_the_model(written: bytes) -> None:
    trainer, data = SignatureTrainer(written, 3), rows()
    start = trainer.init(session())
    assert {name: array.shape for name, array in start.items()} == {"a": (8, 12), "b": (12, 3), "c": (12,), "d": (3,)}
    how = {"epochs": 20, "rate": 0.2}
    one, two = (trainer.fit(start, data.samples, how) for _ in range(2))
    assert one.examples == 95
    assert one.metrics["loss_after"] < one.metrics["loss_before"] / 2
    assert all(one.delta[name].tobytes() == two.delta[name].tobytes() for name in one.delta)
    learned, unseen = added(start, one.delta), rows(400)
    scores = np.maximum(unseen.x @ learned["a"] + learned["c"], 0) @ learned["b"] + learned["d"]
    assert (scores.argmax(axis=-1) == unseen.y).mean() > 0.8
    again = trainer.fit(learned, data.samples, {"epochs": 1, "rate": 0.2})
    assert again.metrics["loss_before"] < one.metrics["loss_before"] / 2  # it went on from what was restored
    assert "loss_after" not in again.metrics  # there is none but that of the only epoch


@tensorflow
@pytest.mark.slow
def test_what_would_leave_the_finite_numbers_or_has_odd_settings_is_refused(written: bytes) -> None:
    trainer = SignatureTrainer(written, 3)
    start = trainer.init(session())
    wild = {name: np.full_like(array, 3e38) for name, array in start.items()}
    with pytest.raises(TrainingFailed):
        trainer.fit(wild, rows().samples, {})
    with pytest.raises(InvalidInput, match="'momentum'"):
        trainer.fit(start, rows().samples, {"momentum": 0.5})
    with pytest.raises(InvalidInput, match="of class 3"):
        trainer.fit(start, [(np.zeros(8), 3)], {})
    with pytest.raises(EngineError, match="training model failed"):
        trainer.fit({**start, "a": np.zeros((1, 2), np.float32)}, rows().samples, {})


def test_a_model_without_these_signatures_is_told() -> None:
    model = shared(RESNET8_INT8.model).read_bytes()
    assert Interpreter(model_content=model)
    with pytest.raises(InvalidInput, match="no signature 'restore'"):
        SignatureTrainer(model, 10).init(session())
    with pytest.raises(EngineError, match="cannot load .* — it has to be a TFLite file with training signatures"):
        SignatureTrainer(b"no model", 10).init(session())
