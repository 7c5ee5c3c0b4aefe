"""Agreement: when two answers in an output say the same, declared where its shape does not tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit_runtime import fields

BY = ("top1", "cosine", "kl", "boxes", "none")
CORNERS = ("xyxy", "yxyx", "xywh", "cxcywh")
COLUMNS = ("scores", "object, scores", "score, class")


@dataclass(frozen=True)
class Agreement:
    """``by``: "top1" the same class, "cosine" close in direction, "kl" close as distributions over classes, "boxes" the
    same objects, "none" nothing is asked of it. ``axis``: of "top1" and "kl", along which the classes lie.

    The rest is of "boxes". ``corners``: what the four coordinates are, "xywh" with the upper left corner, "cxcywh" with
    the centre. ``scores`` and ``classes`` name the outputs that hold them, one row a box, or a score a class and no
    ``classes``; without ``scores`` they stand beside the coordinates, as ``columns`` says. ``min_score``: what an
    application takes for an object.
    """

    by: str
    axis: int = -1
    corners: str = "xyxy"
    columns: str = "scores"
    scores: str = ""
    classes: str = ""
    min_score: float = 0.25

    @property
    def takes(self) -> tuple[str, ...]:
        """Other outputs that are read with this one, and not judged by themselves."""
        return tuple(name for name in (self.scores, self.classes) if name and self.by == "boxes")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(document: dict[str, Any]) -> Agreement:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        for key, known in (("by", BY), ("corners", CORNERS), ("columns", COLUMNS)):
            if document[key] not in known:
                raise ValueError(f"{key} {document[key]!r}")
        texts = {key: fields.text(document[key]) for key in ("scores", "classes")}
        axis = fields.count(document["axis"], -8, 7)
        return Agreement(**{**document, **texts, "axis": axis, "min_score": fields.number(document["min_score"])})
