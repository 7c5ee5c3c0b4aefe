from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit_runtime.errors import EngineError, InvalidInput
from edgekit_train.signature_trainer import SignatureTrainer
from edgekit_train.trainer import TrainingFailed, added
from tests.lab.models import RESNET8_INT8, shared, tensorflow
from tests.runtime.learning import Rows, session

WRITE = """
import sys
import tensorflow as tf

class Net(tf.Module):
    def __init__(self):
        draw = tf.random.stateless_normal
        self.a, self.c = tf.Variable(draw((8, 12), (0, 0)) * 0.5), tf.Variable(tf.zeros((12,)))
        self.b, self.d = tf.Variable(draw((12, 3), (0, 1)) * 0.3), tf.Variable(tf.zeros((3,)))

    def logits(self, x):
        return tf.nn.relu(x @ self.a + self.c) @ self.b + self.d

    @tf.function(input_signature=[tf.TensorSpec((10, 8)), tf.TensorSpec((10,), tf.int32), tf.TensorSpec(())])
    def train(self, x, y, rate):
        hidden = tf.nn.relu(x @ self.a + self.c)
        p = tf.nn.softmax(hidden @ self.b + self.d)
        labels = tf.one_hot(y, 3)
        loss = -tf.reduce_mean(tf.reduce_sum(labels * tf.math.log(p + 1e-9), axis=1))
        error = (p - labels) / 10.0
        back = tf.matmul(error, self.b, transpose_b=True) * tf.cast(hidden > 0, tf.float32)
        self.b.assign_sub(rate * tf.matmul(hidden, error, transpose_a=True))
        self.d.assign_sub(rate * tf.reduce_sum(error, 0))
        self.a.assign_sub(rate * tf.matmul(x, back, transpose_a=True))
        self.c.assign_sub(rate * tf.reduce_sum(back, 0))
        return {"loss": loss}

    @tf.function(input_signature=[])
    def weights(self):
        return {"a": self.a.read_value(), "b": self.b.read_value(), "c": self.c.read_value(), "d": self.d.read_value()}

    @tf.function(input_signature=[tf.TensorSpec(s) for s in ((8, 12), (12, 3), (12,), (3,))])
    def restore(self, a, b, c, d):
        for variable, value in ((self.a, a), (self.b, b), (self.c, c), (self.d, d)):
            variable.assign(value)
        return {"done": tf.reduce_sum(d)}

net = Net()
named = {name: getattr(net, name).get_concrete_function() for name in ("train", "weights", "restore")}
tf.saved_model.save(net, sys.argv[1], signatures=named)
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1])
converter.experimental_enable_resource_variables = True
open(sys.argv[2], "wb").write(converter.convert())
"""


def clusters(count: int = 95) -> Rows:
    rng = np.random.default_rng(2)
    y = rng.integers(3, size=count)
    return Rows((rng.normal(size=(count, 8)) + 2 * np.eye(3, 8)[y]).astype(np.float32), y)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("signature")
    done = subprocess.run(
        [sys.executable, "-c", WRITE, folder / "saved", folder / "m.tflite"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return Path(folder / "m.tflite").read_bytes()


@tensorflow
@pytest.mark.slow
def test_litert_trains_by_the_signatures_of_the_model(written: bytes) -> None:
    trainer, data = SignatureTrainer(written, 3), clusters()
    start = trainer.init(session())
    assert {name: array.shape for name, array in start.items()} == {"a": (8, 12), "b": (12, 3), "c": (12,), "d": (3,)}
    how = {"epochs": 20, "rate": 0.2}
    one, two = (trainer.fit(start, data.samples, how) for _ in range(2))
    assert one.examples == 95
    assert one.metrics["loss_after"] < one.metrics["loss_before"] / 2
    assert all(one.delta[name].tobytes() == two.delta[name].tobytes() for name in one.delta)
    learned, unseen = added(start, one.delta), clusters(400)
    scores = np.maximum(unseen.x @ learned["a"] + learned["c"], 0) @ learned["b"] + learned["d"]
    assert (scores.argmax(axis=-1) == unseen.y).mean() > 0.8
    again = trainer.fit(learned, data.samples, {"epochs": 1, "rate": 0.2})
    assert again.metrics["loss_before"] < one.metrics["loss_before"] / 2  # it went on from what was restored


@tensorflow
@pytest.mark.slow
def test_what_would_leave_the_finite_numbers_or_has_odd_settings_is_refused(written: bytes) -> None:
    trainer = SignatureTrainer(written, 3)
    start = trainer.init(session())
    wild = {name: np.full_like(array, 3e38) for name, array in start.items()}
    with pytest.raises(TrainingFailed):
        trainer.fit(wild, clusters().samples, {})
    with pytest.raises(InvalidInput, match="'momentum'"):
        trainer.fit(start, clusters().samples, {"momentum": 0.5})
    with pytest.raises(InvalidInput, match="of class 3"):
        trainer.fit(start, [(np.zeros(8), 3)], {})
    with pytest.raises(EngineError, match="training model failed"):
        trainer.fit({**start, "a": np.zeros((1, 2), np.float32)}, clusters().samples, {})


def test_a_model_without_these_signatures_is_told() -> None:
    model = shared(RESNET8_INT8.model).read_bytes()
    assert Interpreter(model_content=model)
    with pytest.raises(InvalidInput, match="no signature 'restore'"):
        SignatureTrainer(model, 10).init(session())
    with pytest.raises(EngineError, match="cannot load"):
        SignatureTrainer(b"no model", 10).init(session())
