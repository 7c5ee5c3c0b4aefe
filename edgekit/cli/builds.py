"""Builds: what a job makes, as bundles in their places, as ``--json`` has them, and as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import kibibytes, milliseconds, percent, print_table

if TYPE_CHECKING:
    from edgekit.advice.experience import Timed
    from edgekit.build import Outcome
    from edgekit.building.order import Order
    from edgekit.cli.job import Job
    from edgekit.model import Model
    from edgekit.signing import Signer
    from edgekit.target import Target
    from edgekit_runtime.bundle import Bundle

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Workbench:
    """Where bundles go, target by target, and who signs them."""

    places: Sequence[tuple[Target, Path]]
    signer: Signer

    def make(self, source: Model, order: Order, tell: Tell) -> list[Outcome]:
        """What comes of a model for each target; nothing is written."""
        from edgekit.build import build

        return [build(source, target, order, tell) for target, _ in self.places]

    def write(self, outcomes: Sequence[Outcome], learned: Sequence[Timed] = ()) -> list[dict[str, Any]]:
        """The bundles that hold the budget; each build as ``--json`` has it."""
        from edgekit.bundle import write

        written = [
            write(outcome.contents, place, self.signer) if outcome.contents else None
            for outcome, (_, place) in zip(outcomes, self.places, strict=True)
        ]
        return [_document(*each, learned) for each in zip(outcomes, written, strict=True)]


def prepared(job: Job) -> Workbench:
    """Raises: BundleError for a place that something else has, ConfigError without a key."""
    from edgekit import signing
    from edgekit.bundle import check_place

    places = [(target, job.place(target.name)) for target in job.targets]
    for _, place in places:
        check_place(place)
    return Workbench(places, signing.signer(job.signing_key))


def ok(documents: Sequence[dict[str, Any]]) -> bool:
    """Whether every target has a bundle."""
    return all(document["verdict"]["ok"] for document in documents)


def show(documents: Sequence[dict[str, Any]]) -> None:
    for document in documents:
        _show(document)


def _document(outcome: Outcome, bundle: Bundle | None, learned: Sequence[Timed]) -> dict[str, Any]:
    return {
        "target": outcome.target.name,
        "bundle": str(bundle.root) if bundle else None,
        "digest": bundle.digest if bundle else None,
        "verdict": outcome.verdict.as_dict(),
        "baseline": outcome.measured[0].as_dict(),
        "candidates": [measured.as_dict() for measured in outcome.measured],
        "learned": [asdict(each) | {"told": each.told} for each in learned if each.target == outcome.target.name],
    }


def _called(one: dict[str, Any]) -> str:
    """With what distinguishes it: how its ranges were set, how many layers stayed in float."""
    kept = f"{len(one['float_layers'])} in float" if one["float_layers"] else ""
    how = ", ".join(filter(None, (one["calibrator"], kept)))
    return f"{one['name']} ({how})" if how else str(one["name"])


def _show(document: dict[str, Any]) -> None:
    weighed = any(one["memory_mib"] is not None for one in document["candidates"])
    memory = ("memory",) if weighed else ()
    columns = ("candidate", "engine", "size", *memory, "accuracy", "agreement", "max error", "p50 ms", "p95 ms", "")
    rows = [
        (
            _called(one),
            one["engine"],
            kibibytes(one["size_bytes"]),
            *([f"{one['memory_mib'] or 0:.1f} MiB"] if weighed else []),
            percent(one["accuracy"]),
            percent(one["agreement"]),
            "" if one["max_abs_error"] is None else f"{one['max_abs_error']:.4g}",
            milliseconds(one["latency_ms"]["p50"]),
            milliseconds(one["latency_ms"]["p95"]),
            "chosen" if one["chosen"] else "",
        )
        for one in document["candidates"]
    ]
    print_table(columns, rows, title=document["target"])
    for line in (*document["verdict"]["reasons"], *document["verdict"]["notes"]):
        click.echo(f"  {line}")
    for one in document["learned"]:
        click.echo(f"  learned: {one['format']}-{one['precision']} by {one['engine']}: {one['told']}")
    if document["bundle"]:
        click.echo(f"  {document['bundle']}  {document['digest']}\n")
    else:
        click.echo("  refused: nothing holds the budget\n")
