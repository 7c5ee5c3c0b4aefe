"""``edgekit round inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import json_option, kibibytes, print_json, print_table

if TYPE_CHECKING:
    from edgekit.federated.rounds.contents import Contents


@click.command()
@click.argument("number", type=int, metavar="ROUND")
@click.argument("device", required=False)
@json_option
def inspect(number: int, device: str | None, as_json: bool) -> None:
    """Show what left the devices in a round: each tensor of each update, and who signed it.

    Without DEVICE, of all devices whose update is here. Nothing else than this file and its signature is fetched; in a
    secure round a masked vector, and keys and shares that hide it.

    \b
    Example:
      edgekit round inspect 4 kitchen
    """
    from edgekit.cli.round_desk import book, keys
    from edgekit.federated.rounds import contents

    with book() as known, keys() as seen:
        found = known.find(str(Path.cwd()), number)
        each = [contents.of(found, part, seen) for part in contents.chosen(found, device)]
    if as_json:
        print_json({"round": found.number, "updates": [one.as_dict() for one in each]})
        return
    for one in each:
        _show(one)


def _show(one: Contents) -> None:
    facts = one.facts
    how = "masked, as a part of a sum" if facts.masked else f"signed with {one.signer}"
    click.echo(f"{one.device}: {facts.bytes} bytes ({kibibytes(facts.bytes)}), {how}")
    rows = [(tensor.name, tensor.dtype, "×".join(map(str, tensor.shape)), tensor.bytes) for tensor in one.tensors]
    print_table(("tensor", "dtype", "shape", "bytes"), rows)
    print_table(("text", ""), sorted(one.said.items()))
    norm = "" if facts.masked else f"norm {facts.norm:.4g}; "
    click.echo(f"{norm}{facts.digest}\n")
