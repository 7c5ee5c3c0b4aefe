"""Sampling: who takes part in a round, by a coin of their own for each device, as the accountant assumes."""

from __future__ import annotations

import os
from collections.abc import Iterable

from edgekit_train.noise import Randomness

_BYTES = 8


def chosen(devices: Iterable[str], rate: float, randomness: Randomness = os.urandom) -> list[str]:
    """Each with probability ``rate``, on its own: how many it will be is not known before, and may be none.

    Who was chosen is told to nobody, and who does not answer is not replaced: else ``ledger`` counts too little.
    """
    below = rate * (1 << (8 * _BYTES))
    return [device for device in devices if int.from_bytes(randomness(_BYTES), "little") < below]
