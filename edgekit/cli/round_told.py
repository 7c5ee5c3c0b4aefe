"""How ``edgekit round`` tells of rounds: line by line as it goes, as a table, and as ``--json`` has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from edgekit.cli import round_privacy
from edgekit.cli.connect import show_failure
from edgekit.cli.output import kibibytes, percent, print_json, print_table
from edgekit.counted import counted
from edgekit.errors import EdgekitError
from edgekit.federated.rounds.gate_store import Gated
from edgekit.federated.rounds.round import ABORTED, DONE, HALTED, Facts, Part, Result, Round
from edgekit_train import family as families

AGAIN = "'edgekit round resume' asks again, 'edgekit round abort' ends it"
ANEW = "start another round, 'edgekit round abort' ends this one"


@dataclass
class Teller:
    """What is heard of rounds while they go; with ``as_json`` nothing but failures, and ``rounds`` at the end."""

    as_json: bool
    rounds: list[Round] = field(default_factory=list)

    def begun(self, round_: Round) -> None:
        self.line(f"round {round_.number}: {counted(len(round_.parts), 'device')}, {_about(round_)}")

    def line(self, text: str) -> None:
        if not self.as_json:
            click.echo(text, err=True)

    def part(self, round_: Round, part: Part) -> None:
        if part.facts is None:
            show_failure(part.device, part.error or {"message": part.state, "hint": None})
        elif not self.as_json:
            late = f" (too late for round {round_.number})" if part.state == "late" else ""
            click.echo(f"{part.device}: {learned(part.facts)}{late}")

    def ended(self, round_: Round) -> None:
        self.rounds = [each for each in self.rounds if each.number != round_.number] + [round_]
        if round_.result and not self.as_json:
            click.echo(f"round {round_.number}: {outcome(round_.result)}")
        if round_.state == HALTED and not self.as_json:
            click.echo(f"edgekit: round {round_.number}: {round_.reason} — {ANEW if round_.given else AGAIN}", err=True)
        if round_.state == ABORTED and not self.as_json:
            click.echo(f"edgekit: round {round_.number}: aborted by somebody else — edgekit round start", err=True)


def learned(facts: Facts) -> str:
    """What an update tells of itself."""
    if facts.masked:
        return f"{kibibytes(facts.bytes)}, masked"
    moved = [
        f"{name} {facts.metrics[f'{name}_before']:.3f} → {facts.metrics[f'{name}_after']:.3f}"
        for name in ("loss", "accuracy")
        if f"{name}_before" in facts.metrics and f"{name}_after" in facts.metrics
    ]
    size = f"{kibibytes(facts.bytes)} in {facts.seconds:.1f} s"
    return "; ".join((f"{counted(facts.examples, 'sample')} learned from, {size}", *moved))


def outcome(result: Result) -> str:
    samples = f" of {counted(result.examples, 'sample')}" if result.examples else ""
    came = f"{counted(result.updates, 'update')}{samples}, weights moved by {result.moved:.3g}"
    if result.accuracy is None:
        return came
    moved = f"{percent(result.before)} → {percent(result.accuracy)}"
    return f"{came}; accuracy {moved} on {counted(result.samples, 'evaluation sample')}"


def show(round_: Round, gated: Gated | None) -> None:
    """A round, and a line for each of its devices."""
    why = f": {round_.reason}" if round_.reason else ""
    click.echo(f"round {round_.number} ({round_.key}): {round_.state}{why}")
    click.echo(_about(round_))
    print_table(("device", "state", "samples", "size", "norm", "release", ""), [_row(part) for part in round_.parts])
    if round_.result:
        click.echo(outcome(round_.result))
    if gated:
        click.echo(f"at the gate: {gated.reason or gated.evaluation.told}")
    for target, digest in gated.releases.items() if gated else ():
        click.echo(f"built for {target}: {digest}")


def _about(round_: Round) -> str:
    subject = round_.subject
    how = f"{subject.trainer} by {round_.plan.strategy}, from {round_.source}"
    return f"{subject.app} of {families.brief(subject.family)}, {how}"


def _row(part: Part) -> tuple[object, ...]:
    facts = part.facts
    if facts is None:
        return part.device, part.state, None, None, None, None, (part.error or {}).get("message")
    if facts.masked:
        return part.device, part.state, None, kibibytes(facts.bytes), None, None, "masked"
    norm, release = f"{facts.norm:.3g}", facts.release[: families.SHOWN]
    return part.device, part.state, facts.examples, kibibytes(facts.bytes), norm, release, None


def document(round_: Round, gated: Gated | None = None) -> dict[str, Any]:
    """As `--json` has a round. ``gated``: what came of it at the gate, once it has been there."""
    facts = asdict(round_)
    subject, plan, parts = facts.pop("subject"), facts.pop("plan"), facts.pop("parts")
    for name in ("accept_new_host_key", "privacy"):
        plan.pop(name)
    facts.pop("number")
    facts |= {"used": list(facts["used"]), "gate": gated and gated.as_dict()}
    told = {"id": round_.number, **subject, **facts, "plan": plan, "devices": list(parts)}
    return told | round_privacy.document(round_)


def status(rounds: list[Round]) -> int:
    """The exit status: 3 for a round that halted, 1 for one that somebody else aborted."""
    state = rounds[-1].state if rounds else DONE
    return {DONE: 0, HALTED: 3}.get(state, 1)


@contextmanager
def ending(teller: Teller) -> Iterator[None]:
    """Behind the block: what came of the rounds that it has carried on, and the exit status; also before an error."""
    failed: dict[str, Any] = {}
    try:
        yield
        code = status(teller.rounds)
    except EdgekitError as error:
        if not (teller.as_json and teller.rounds):
            raise
        failed, code = {"error": error.as_dict()}, error.exit_code
        click.echo(f"edgekit: {error}", err=True)
    if teller.as_json:
        print_json({"rounds": [document(each) for each in teller.rounds], **failed})
    if code:
        raise SystemExit(code)
