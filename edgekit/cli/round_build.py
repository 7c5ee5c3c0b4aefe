"""``edgekit round build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli import builds
from edgekit.cli.output import json_option, print_json, progress
from edgekit.cli.rollout import number_argument

if TYPE_CHECKING:
    from edgekit.cli.job import Job
    from edgekit.cli.passing import Passed
    from edgekit.federated.rounds.round import Round

REFUSED = 3


@click.command()
@number_argument
@click.option("--output", type=click.Path(path_type=Path), help="Where the bundle goes (default: bundles/APP-TARGET).")
@json_option
def build(number: int | None, output: Path | None, as_json: bool) -> None:
    """Build the project's model with what a round has learned.

    What came of the round is merged into the float model, which then answers the evaluation data beside the model
    before. It is built as 'edgekit build' builds, by edgekit.toml: quantized, held to its budget, signed; and what is
    to ship answers them beside what it replaces. If one of these is right less often, the round is kept and not
    shipped, and the exit status is 3. 'edgekit bundle show' names the round; 'edgekit push --waves' brings it to
    devices. Without ID, the project's last round.

    \b
    Example:
      edgekit round build
      edgekit push --to all --waves 1,10%,100%
    """
    from edgekit.cli.job import project_job
    from edgekit.cli.passing import through
    from edgekit.cli.round_desk import generations

    job = project_job(output)
    with generations() as known:
        found = known.book.find(known.project, number)
        _check(found, job)
        with progress(as_json) as tell:
            passed = through(found, known, job, tell)
    _show(found, passed, as_json)
    if passed.gated.reason:
        raise SystemExit(REFUSED)


def _check(found: Round, job: Job) -> None:
    """Raises: ConfigError."""
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds.round import DONE

    if found.state != DONE:
        raise ConfigError(f"round {found.number} is {found.state}: nothing has come of it", "edgekit round resume")
    if found.subject.app != job.order.app:
        raise ConfigError(f"round {found.number} is of {found.subject.app}, edgekit.toml of {job.order.app}")


def _show(found: Round, passed: Passed, as_json: bool) -> None:
    if as_json:
        print_json({"id": found.number, "key": found.key, **passed.as_dict()})
        return
    gated = passed.gated
    told = (gated.evaluation.told, *(each.told for each in passed.replaced))
    for line in told if passed.builds else ():
        click.echo(f"round {found.number}: {line}")
    builds.show(passed.builds)
    if gated.reason:
        click.echo(f"edgekit: round {found.number}: {gated.reason}", err=True)
