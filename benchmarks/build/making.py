"""Making the models that nobody published: a detector head and a small transformer, trained here once, by Keras.

Run as a file, with a folder: Keras is imported in a process of its own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

SHARED = Path(__file__).parents[3] / "shared" / "models"
KEYWORDS = SHARED / "data/speech_commands_mfcc.npz"
SEED = 7
SIDE, CELLS, CLASSES, SPAN = 64, 8, 3, 640.0
PICTURES, CALIBRATION, EVALUATION = 2000, 100, 300
HEADS, WIDTH, LAYERS, LEARNED_FROM = 4, 64, 2, 600


def place() -> Path:
    """Of what this file makes, as it is now."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return platformdirs.user_cache_path("edgekit") / "benchmarks" / f"made-{digest}"


def make(tell: Callable[[str], None]) -> Path:
    """The folder in the user's cache with both models and their data; made where it is not there yet.

    What could not be made is not in it.
    """
    folder = place()
    if not (folder / "complete").exists():
        tell("training a detector and a transformer (about two minutes, only this once)")
        folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "KERAS_BACKEND": "tensorflow", "KERAS_HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-P", __file__, str(folder)], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            tell(f"they could not be made: {done.stderr.strip().rpartition(chr(10))[2][:200]}")
    return folder


def main() -> None:
    import keras
    import tensorflow as tf

    folder = Path(sys.argv[1])
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    detector(folder)
    if KEYWORDS.exists():
        transformer(folder)
    (folder / "complete").touch()


def detector(folder: Path) -> None:
    """Coloured boxes on noise, found again: image [N, 64, 64, 3] → [N, 64 cells, x, y, width, height, 3 scores]."""
    import keras

    images, truth = pictures(np.random.default_rng(SEED), PICTURES + CALIBRATION + EVALUATION)
    model = detector_model()
    model.compile(keras.optimizers.Adam(2e-3), loss=detector_loss)
    model.fit(images[:PICTURES], truth[:PICTURES], batch_size=32, epochs=8, verbose=0)
    model.save(folder / "detector.keras")
    middle = PICTURES + CALIBRATION
    np.savez(folder / "detector.npz", calib_x=images[PICTURES:middle], test_x=images[middle:])


def detector_model() -> Any:
    from keras import Input, Model, layers

    image = Input((SIDE, SIDE, 3), name="image")
    x: Any = image
    for filters, stride in ((16, 2), (32, 2), (64, 2), (64, 1)):
        x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    boxes = layers.Reshape((CELLS * CELLS, 4))(layers.Conv2D(4, 1, activation="sigmoid")(x))
    scores = layers.Reshape((CELLS * CELLS, CLASSES))(layers.Conv2D(CLASSES, 1, activation="sigmoid")(x))
    found = layers.Concatenate(axis=-1, name="found")([layers.Rescaling(SPAN)(boxes), scores])
    return Model(image, found)


def pictures(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Images of floats 0..1 with one to three boxes each, and what is to be found in every cell."""
    images = rng.random((count, SIDE, SIDE, 3), np.float32) * 0.4
    truth = np.zeros((count, CELLS, CELLS, 4 + CLASSES), np.float32)
    for image, cells in zip(images, truth, strict=True):
        for _ in range(rng.integers(1, 4)):
            kind, size = rng.integers(CLASSES), rng.integers(8, 32, 2)
            left, top = rng.integers(0, SIDE - size)
            image[top : top + size[1], left : left + size[0], kind] += 0.6
            middle = np.array([left + size[0] / 2, top + size[1] / 2])
            row, column = (middle[::-1] * CELLS / SIDE).astype(int)
            cells[row, column, :4] = np.concatenate([middle, size]) * (SPAN / SIDE)
            cells[row, column, 4:] = np.arange(CLASSES) == kind
    return images, truth.reshape(count, CELLS * CELLS, -1)


def detector_loss(truth: Any, found: Any) -> Any:
    """Squared error of the scores, and of the boxes of cells that have one."""
    from keras import ops

    there = ops.max(truth[..., 4:], axis=-1, keepdims=True)
    boxes = ops.sum(there * ops.square((truth[..., :4] - found[..., :4]) / SPAN))
    return 5 * boxes + ops.sum(ops.square(truth[..., 4:] - found[..., 4:]))


def transformer(folder: Path) -> None:
    """Keywords from MFCC [N, 49, 10, 1] → probabilities [N, 12]; it learns from a part of the published test set."""
    import keras

    with np.load(KEYWORDS) as data:
        x, y, calibration = data["test_x"], data["test_y"], data["calib_x"]
        labels = data["calib_y"]
    order = np.random.default_rng(SEED).permutation(len(x))
    learn, rest = order[:LEARNED_FROM], order[LEARNED_FROM:]
    model = transformer_model()
    model.compile(keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
    model.fit(x[learn], y[learn], batch_size=32, epochs=40, verbose=0)
    model.save(folder / "transformer.keras")
    np.savez(folder / "transformer.npz", calib_x=calibration, calib_y=labels, test_x=x[rest], test_y=y[rest])


def transformer_model() -> Any:
    """As A. Berg et al., "Keyword Transformer" (arXiv:2104.00769), but small; a convolution tells the positions."""
    from keras import Input, Model, layers

    sound = Input((49, 10, 1), name="sound")
    x: Any = layers.Reshape((49, 10))(layers.Rescaling(1 / 32)(sound))
    x = layers.Dense(WIDTH)(x)
    x = layers.Add()([x, layers.Conv1D(WIDTH, 9, padding="same", activation="relu")(x)])
    for _ in range(LAYERS):
        normal = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=0.1)(normal, normal)])
        inner = layers.Dense(2 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dropout(0.2)(layers.Dense(WIDTH)(inner))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return Model(sound, layers.Dense(12, activation="softmax")(x))


if __name__ == "__main__":
    main()
