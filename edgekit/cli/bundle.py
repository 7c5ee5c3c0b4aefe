"""``edgekit bundle``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.output import json_option, kibibytes, print_json, print_table
from edgekit_runtime.tensors import TensorSpec


@click.group()
def bundle() -> None:
    """Look into bundles."""


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Show what a bundle holds, after checking every digest in it.

    \b
    Example:
      edgekit bundle show bundles/digits-raspberry-pi-5
    """
    import json

    from edgekit.push import open_parcel
    from edgekit_runtime import manifest

    parcel = open_parcel(folder)
    opened, signed = parcel.bundle, bool(parcel.signature)
    document = json.loads(manifest.dump(opened.manifest))
    if as_json:
        layers = [layer.as_dict() for layer in opened.layers]
        facts = {"bundle": str(folder), "digest": opened.digest, "signed": signed}
        print_json({**facts, "manifest": document, "layers": layers})
        return
    rows = [(key, document[key]) for key in ("app", "version", "sequence", "target", "format", "precision")]
    rows += [(f"input {spec.name}", _shape(spec)) for spec in opened.manifest.interface.accepts.values()]
    rows += [(f"output {spec.name}", _shape(spec)) for spec in opened.manifest.interface.outputs]
    rows += [(layer.media_type.rpartition("edgekit.")[2], kibibytes(layer.size)) for layer in opened.layers]
    print_table(("fact", "value"), [("digest", opened.digest), ("signed", "yes" if signed else "no"), *rows])


def _shape(spec: TensorSpec) -> str:
    return str(spec).partition(": ")[2]
