"""``edgekit round inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import json_option, kibibytes, print_json, print_table

if TYPE_CHECKING:
    from edgekit.federated.rounds.contents import Contents


@click.command()
@click.argument("which", nargs=-1, metavar="[ID] [DEVICE]")
@json_option
def inspect(which: tuple[str, ...], as_json: bool) -> None:
    """Show what left the devices in a round: each tensor of each update, and who signed it.

    Without ID, in the project's last one; without DEVICE, of all devices whose update is here. One that was refused is
    not kept. Nothing else than this file and its signature is fetched; in a secure round a masked vector, and keys and
    shares that hide it.

    \b
    Examples:
      edgekit round inspect kitchen
      edgekit round inspect 4 kitchen
    """
    from edgekit.cli.round_desk import book, keys
    from edgekit.federated.rounds import contents

    number, device = _read(which)
    with book() as known, keys() as seen:
        found = known.find(str(Path.cwd()), number)
        each = [contents.of(found, part, seen) for part in contents.chosen(found, device)]
    if as_json:
        print_json({"round": found.number, "updates": [one.as_dict() for one in each]})
        return
    for one in each:
        _show(one)


def _read(which: tuple[str, ...]) -> tuple[int | None, str | None]:
    """A round and a device, as far as they are named: what is a number names a round."""
    number, *rest = which if which and which[0].isdecimal() else (None, *which)
    if len(rest) > 1:
        raise click.UsageError(f"one device at a time, not {rest[1]!r} as well")
    return None if number is None else int(number), rest[0] if rest else None


def _show(one: Contents) -> None:
    facts = one.facts
    how = "masked, as a part of a sum" if facts.masked else f"signed with {one.signer}"
    click.echo(f"{one.device}: {facts.bytes} bytes ({kibibytes(facts.bytes)}), {how}")
    rows = [(tensor.name, tensor.dtype, "×".join(map(str, tensor.shape)), tensor.bytes) for tensor in one.tensors]
    print_table(("tensor", "dtype", "shape", "bytes"), rows)
    print_table(("text", ""), sorted(one.said.items()))
    norm = "" if facts.masked else f"norm {facts.norm:.4g}; "
    click.echo(f"{norm}{facts.digest}\n")
