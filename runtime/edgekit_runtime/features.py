"""Features: what the last layer of a model takes, as an output of the artifact that ``predict`` does not give."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit_runtime import fields


@dataclass(frozen=True)
class Features:
    """``tensor``: the output's name in the artifact; ``size``: its numbers for one sample, each of which stands for
    ``(number - zero_point) * scale``.
    """

    tensor: str
    size: int
    scale: float = 1.0
    zero_point: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(document: dict[str, Any]) -> Features:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        scale, zero_point = fields.number(document["scale"]), fields.count(document["zero_point"], -(1 << 16), 1 << 16)
        if scale <= 0:
            raise ValueError(f"features with a scale of {scale}")
        told = {"tensor": fields.text(document["tensor"]), "size": fields.count(document["size"], 1, 1 << 20)}
        return Features(**{**document, **told, "scale": scale, "zero_point": zero_point})
