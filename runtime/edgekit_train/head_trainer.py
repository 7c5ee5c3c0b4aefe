"""Head training: softmax regression, or a small MLP, on the features of the backbone.

Memory, beside numpy and the engine: the samples that are held (``most_bytes`` at most), four times the bytes of the
head, six times with the proximal term, and a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np

from edgekit_train import features, heads, settings
from edgekit_train.descent import Descent
from edgekit_train.gathering import Gathered, gathered
from edgekit_train.settings import Settings
from edgekit_train.trainer import finished

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.trainer import Config, Fitted, Sample
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]

ROWS = 256
"""Samples that are judged at once."""


@dataclass(frozen=True)
class HeadTrainer:
    """``hidden``: units of a layer before the last, 0 for none. ``only_bias``: nothing but biases is changed, a few
    numbers in place of thousands (Ben Zaken et al. 2022, "BitFit"; Cai et al. 2020, "TinyTL"). ``usual``: the settings,
    but for those that the configuration has. Takes features.
    """

    hidden: int = 0
    only_bias: bool = False
    usual: Settings = Settings()

    def init(self, session: Session) -> Weights:
        """Raises: InvalidInput for a bundle without features."""
        size, classes = features.shape(session)
        return heads.initial([size, *([self.hidden] if self.hidden else []), classes])

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted:
        """Raises: InvalidInput, TrainingFailed. The same samples and settings give the same bytes."""
        how = settings.of(config, self.usual)
        head, rng = heads.layers(weights), np.random.default_rng(how.seed)
        held = gathered(data, (head[0][0].shape[0], head[-1][1].size), how.most_bytes, rng)
        descent = Descent(head, how, only_bias=self.only_bias)
        with np.errstate(over="ignore", invalid="ignore"):  # told by ``finished``
            before = _judged(head, held, "before")
            for _ in range(how.epochs):
                for rows, labels in held.batches(rng.permutation(len(held.rows)), how.batch):
                    descent.step(heads.gradient(head, rows, labels))
            metrics = {**before, **_judged(head, held, "after")}
            return finished(weights, heads.named(head), len(held.rows), metrics)


def _judged(head: list[tuple[Array, Array]], held: Gathered, when: str) -> dict[str, float]:
    """Mean loss and accuracy on the samples of the training."""
    losses, right = 0.0, 0
    for scores, labels in _answers(head, held):
        losses += heads.loss(scores, labels) * len(labels)
        right += int(np.count_nonzero(scores.argmax(axis=-1) == labels))
    return {f"loss_{when}": losses / len(held.rows), f"accuracy_{when}": right / len(held.rows)}


def _answers(head: list[tuple[Array, Array]], held: Gathered) -> Iterator[tuple[Array, Array]]:
    for rows, labels in held.batches(np.arange(len(held.rows)), ROWS):
        yield heads.logits(head, rows), labels
