"""Before: the artifacts that a round's build would replace, found where bundles lie or made anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.cli.builds import Tell

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.build import Outcome
    from edgekit.building.order import Order
    from edgekit.federated.replacing import Artifact, Replaced
    from edgekit.model import Model
    from edgekit.target import Target


@dataclass(frozen=True)
class Before:
    """The float ``model`` before; its releases are of a ``family``, by an ``order``."""

    model: Model
    family: str
    order: Order
    tell: Tell

    def beside(self, made: Sequence[Outcome], places: Sequence[tuple[Target, Path]]) -> Iterator[Replaced]:
        """What was made, beside what it takes the place of. Raises: as a build; DataError without labels."""
        from edgekit.federated.replacing import Artifact, replaced

        known = dict(zip((target.name for target, _ in places), places, strict=True))
        for outcome in made:
            if outcome.contents:
                old = self._artifact(*known[outcome.target.name])
                yield replaced(old, Artifact.of(outcome.contents), self.order)

    def _artifact(self, target: Target, place: Path) -> Artifact | None:
        """The bundle in its place, if it is of the model before, else one built anew; None where none can be."""
        from edgekit.build import build
        from edgekit.federated.replacing import Artifact, standing

        found = standing(place, target.name, self.family)
        if found:
            return found
        self.tell(f"{target.name}: {place} is not of the model before, which is built anew to compare")
        contents = build(self.model, target, self.order, self.tell).contents
        return Artifact.of(contents) if contents else None
