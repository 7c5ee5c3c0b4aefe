"""Heads: layers of numpy on features, with their loss and its gradient.

A head of layers ``head.0`` to ``head.n`` has float32 weights ``head.0.weight`` [features, units], ``head.0.bias``
[units], and so on; ReLU is between them, and the last gives a logit for each class. One layer is softmax regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

from edgekit_runtime.errors import InvalidInput

if TYPE_CHECKING:
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]
    Layer = Tuple[Array, Array]

PREFIX = "head"
MOST_LAYERS = 8


def initial(sizes: list[int]) -> Weights:
    """A head of these sizes, features first, classes last; the same each time.

    Before a ReLU as He et al. (2015) draw it; the last layer is zero: all classes alike.
    """
    rng, made = np.random.default_rng(0), {}
    for place, (width, units) in enumerate(zip(sizes, sizes[1:])):
        scale = 0.0 if place == len(sizes) - 2 else np.sqrt(2.0 / width)
        made[f"{PREFIX}.{place}.weight"] = (rng.standard_normal((width, units)) * scale).astype(np.float32)
        made[f"{PREFIX}.{place}.bias"] = np.zeros(units, np.float32)
    return made


def layers(weights: Weights, prefix: str = PREFIX) -> list[Layer]:
    """Copies of the layers, in order. Raises: InvalidInput where they are no head."""
    count = len(weights) // 2
    names = [(f"{prefix}.{place}.weight", f"{prefix}.{place}.bias") for place in range(count)]
    if not 0 < count <= MOST_LAYERS or {name for pair in names for name in pair} != set(weights):
        raise InvalidInput(f"weights {', '.join(sorted(weights)[:6])} are no head")
    found = [(np.array(weights[one], np.float32), np.array(weights[other], np.float32)) for one, other in names]
    for (weight, bias), after in zip(found, [*found[1:], None]):
        if weight.ndim != 2 or bias.shape != weight.shape[1:] or (after and after[0].shape[:1] != bias.shape):
            raise InvalidInput(f"a head whose layers do not follow each other: {weight.shape}, {bias.shape}")
    return found


def named(head: list[Layer], prefix: str = PREFIX) -> Weights:
    """The inverse of ``layers``."""
    parts = [(f"{prefix}.{place}", layer) for place, layer in enumerate(head)]
    return {f"{name}.{kind}": array for name, layer in parts for kind, array in zip(("weight", "bias"), layer)}


def logits(head: list[Layer], rows: Array) -> Array:
    """float32 [rows, classes] of features [rows, size]."""
    return _forward(head, rows)[-1]


def _forward(head: list[Layer], rows: Array) -> list[Array]:
    """What each layer takes, and what the last gives."""
    found = [rows]
    for place, (weight, bias) in enumerate(head):
        made = found[-1] @ weight + bias
        found.append(np.maximum(made, 0, out=made) if place < len(head) - 1 else made)
    return found


def probabilities(scores: Array) -> Array:
    """Softmax along the last axis."""
    p: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p


def loss(scores: Array, labels: Array) -> float:
    """The mean cross-entropy of logits."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    of_label = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=-1)) - of_label))


def error_of(scores: Array, labels: Array) -> Array:
    """The gradient of ``loss`` by the logits."""
    error = probabilities(scores)
    error[np.arange(len(labels)), labels] -= 1
    return error / np.float32(len(labels))


def gradient(head: list[Layer], rows: Array, labels: Array) -> list[Layer]:
    """Of ``loss`` by each weight and bias."""
    taken = _forward(head, rows)
    error = error_of(taken[-1], labels)
    found: list[Layer] = []
    for place in reversed(range(len(head))):
        found.insert(0, (taken[place].T @ error, error.sum(axis=0)))
        if place:
            error = (error @ head[place][0].T) * (taken[place] > 0)
    return found
