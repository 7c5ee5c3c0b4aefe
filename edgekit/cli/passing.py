"""Passing: a round's weights in the project's float model, held beside the model before, and built as any other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.cli import builds
from edgekit.cli.before import Before
from edgekit.cli.builds import Tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.build import Outcome
    from edgekit.cli.job import Job
    from edgekit.federated.gate import Gate
    from edgekit.federated.paired import Paired
    from edgekit.federated.replacing import Replaced
    from edgekit.federated.rounds.gate_store import Gated
    from edgekit.federated.rounds.generations import Generations
    from edgekit.federated.rounds.round import Round
    from edgekit.model import Model
    from edgekit_train.update import Weights


@dataclass(frozen=True)
class Passed:
    """What came of a round at the gate, beside what it would replace, and its builds; none where one got worse."""

    gated: Gated
    replaced: Sequence[Replaced]
    builds: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        told, replaced = self.gated.as_dict(), [each.as_dict() for each in self.replaced]
        told = {key: told[key] for key in ("ok", "reason", "evaluation")}
        return {**told, "replaced": replaced, "builds": self.builds}


def through(round_: Round, generations: Generations, job: Job, tell: Tell) -> Passed:
    """What comes of it is in the store before there is a bundle, so that a device is known by what it has.

    Raises: what a build raises; DataError for evaluation data without labels, RoundError for files that are gone.
    """
    from edgekit.federated.gate import Gate
    from edgekit.federated.rounds.gate_store import Gated
    from edgekit.federated.rounds.shelf import Shelf
    from edgekit.model import open_model
    from edgekit.passes import head

    workbench, source = builds.prepared(job), open_model(job.model, job.weights)
    gate = Gate(job.targets[0], job.order)
    with tempfile.TemporaryDirectory(prefix="edgekit-round-") as folder:
        before = generations.model_of(round_.subject.family, source, Path(folder))
        learned = _learned(before, round_, gate)
        after = head.merged(before, learned, Path(folder) / before.path.name)
        tell("comparing with the model before")
        found = gate.compared(before, after)
        order = replace(job.order, origin=_origin(round_, before.digest, generations, found))
        made = [] if found.worse else workbench.make(after, order, tell)
        of_before = Before(before, round_.subject.family, job.order, tell)
        replaced = list(of_before.beside(made, workbench.places))
        reason = _reason(found, replaced, made)
        made = [] if any(each.worse for each in replaced) else made
        gated = Gated(reason, found, _releases(made))
        if gated.releases:
            Shelf(round_.key).keep_head(learned)  # for the rounds that come after this build
        generations.gates.note(round_.number, gated, _family(made))
        return Passed(gated, replaced, workbench.write(made) if made else [])


def _reason(found: Paired, replaced: Sequence[Replaced], made: Sequence[Outcome]) -> str:
    """Why it does not ship to all targets; "" where it does."""
    worse = [found.told] if found.worse else [each.told for each in replaced if each.worse]
    if worse:
        return f"worse than the model before, so it is kept and not shipped: {'; '.join(worse)}"
    refused = [outcome.target.name for outcome in made if not outcome.contents]
    return f"nothing holds the budget for {', '.join(refused)}" if refused else ""


def _releases(made: Sequence[Outcome]) -> dict[str, str]:
    from edgekit.bundle import digest

    return {outcome.target.name: digest(outcome.contents) for outcome in made if outcome.contents}


def _family(made: Sequence[Outcome]) -> str:
    """Of what was made, all of one model."""
    from edgekit.bundle import digest
    from edgekit_train import family

    return next((family.of(each.contents.manifest, digest(each.contents)) for each in made if each.contents), "")


def _learned(before: Model, round_: Round, gate: Gate) -> Weights:
    """What is to be merged into the model before."""
    from edgekit.federated.merging import head_of
    from edgekit.federated.rounds.shelf import Shelf

    return head_of(before, round_.subject.trainer, Shelf(round_.key).result()[0].weights, gate.moments_of)


def _origin(round_: Round, model: str, generations: Generations, found: Paired) -> dict[str, Any]:
    """What the manifest says of a round that is done; ``model``: the digest of the one before."""
    from edgekit.federated import lineage

    assert round_.result
    subject, result = round_.subject, round_.result
    how, counts = (model, round_.plan.strategy, subject.trainer), (result.updates, result.examples)
    if round_.plan.central:
        counts = (0, 0)  # a bundle goes to many, and how many took part is what the noise hides
    told = lineage.Lineage(round_.number, round_.key, *how, *counts, generations.rounds(round_), found)
    return {lineage.KEY: told.as_dict()}
