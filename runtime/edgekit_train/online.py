"""Online learning: a step for each sample as it comes, with some of the past beside it, and no round.

Online gradient descent (Zinkevich 2003) with experience replay. The weights and the buffer stay on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Iterable

import numpy as np

from edgekit_train import heads, settings
from edgekit_train.descent import Descent
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.trainer import checked, finished

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.replay import Replay
    from edgekit_train.trainer import Config, Fitted, Sample
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OnlineTrainer:
    """Takes features, each sample once, in the order in which they come, into ``replay``. It is a trainer as others
    are; whoever serves the model meanwhile adds the delta to the weights and goes on.

    ``accuracy`` of what comes of it is of answers that were given before their label was learned.
    """

    replay: Replay
    hidden: int = 0

    def init(self, session: Session) -> Weights:
        """Raises: InvalidInput for a bundle without features."""
        return HeadTrainer(self.hidden).init(session)

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted:
        """Raises: InvalidInput, TrainingFailed; the buffer is then as it was.

        Memory: as of ``HeadTrainer``, the buffer, and as much of it as is replaced.
        """
        how, head = settings.of(config), heads.layers(weights)
        shape = (head[0][0].shape[0], head[-1][1].size)
        descent, count, right = Descent(head, replace(how, momentum=0.0)), 0, 0
        with self.replay.whole(), np.errstate(over="ignore", invalid="ignore"):  # told by ``finished``
            for x, y in data:
                row, label = checked(x, y, *shape)
                right += int(heads.logits(head, row[None])[0].argmax() == label)
                descent.step(heads.gradient(head, *self._with_past(row, label, how.replay)))
                self.replay.add(row, label)
                count += 1
            return finished(weights, heads.named(head), count, {"accuracy": right / max(1, count)})

    def _with_past(self, row: Array, y: int, count: int) -> tuple[Array, Array]:
        rows, labels = self.replay.some(count)
        return np.concatenate([row[None], rows]), np.concatenate([[y], labels]).astype(np.int64)
