"""Shamir: a secret in shares, any ``threshold`` of which give it back, and fewer tell nothing (CACM 22(11), 1979).

Numbers are modulo the Mersenne prime 2^521 - 1, at which a polynomial of degree ``threshold - 1`` is looked at.
"""

from __future__ import annotations

import os
from typing import Mapping, Sequence

from edgekit_train.noise import Randomness

PRIME = (1 << 521) - 1
SECRET, SHARE = 32, 66
"""Bytes of a secret, and of a share."""
_COEFFICIENT = 80
"""Bytes that a coefficient is made of: so many more than the prime's that none is likelier than another."""


def split(secret: bytes, threshold: int, places: Sequence[int], randomness: Randomness = os.urandom) -> dict[int, int]:
    """A share for each place, which are distinct numbers from 1 on.

    Raises: ValueError for places that are not, or fewer than the threshold, or a secret that has not SECRET bytes.
    """
    if len(secret) != SECRET or len(set(places)) != len(places) or not 1 <= threshold <= len(places):
        raise ValueError(f"{len(secret)} bytes in {len(places)} shares, of which {threshold} suffice")
    if min(places) < 1:
        raise ValueError("a share at 0 is the secret")
    drawn = [int.from_bytes(randomness(_COEFFICIENT), "little") % PRIME for _ in range(threshold - 1)]
    return {place: _value([int.from_bytes(secret, "little"), *drawn], place) for place in places}


def _value(coefficients: Sequence[int], place: int) -> int:
    value = 0
    for each in reversed(coefficients):
        value = (value * place + each) % PRIME
    return value


def recover(shares: Mapping[int, int], threshold: int) -> bytes:
    """The secret. Raises: ValueError for fewer shares than the threshold, and where a wrong one shows.

    It shows where there are more shares than needed, or the secret comes out too large; else see who made it known.
    """
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares, and {threshold} are needed")
    if any(not 0 < place < PRIME or not 0 <= share < PRIME for place, share in shares.items()):
        raise ValueError("a share that is none")
    used = dict(sorted(shares.items())[:threshold])
    if any(_at(used, place) != share for place, share in shares.items() if place not in used):
        raise ValueError("shares that contradict each other")
    secret = _at(used, 0)
    if secret >> (8 * SECRET):
        raise ValueError("shares of nothing that was shared")
    return secret.to_bytes(SECRET, "little")


def _at(shares: Mapping[int, int], place: int) -> int:
    """Where the polynomial through the shares passes (Lagrange)."""
    total = 0
    for one, share in shares.items():
        above = below = 1
        for other in shares:
            if other != one:
                above, below = above * (place - other) % PRIME, below * (one - other) % PRIME
        total += share * above * pow(below, -1, PRIME)
    return total % PRIME
