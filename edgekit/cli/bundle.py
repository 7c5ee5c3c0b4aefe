"""``edgekit bundle``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import json_option, kibibytes, milliseconds, percent, print_json, print_table
from edgekit_runtime.tensors import TensorSpec

if TYPE_CHECKING:
    from edgekit.anatomy import Anatomy, Layer
    from edgekit.bundle_diff import Agreement, Built, Difference
    from edgekit.unfused import Unfused
    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.manifest import EngineNeed

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def bundle() -> None:
    """Look into bundles."""


@bundle.command()
@folder_argument
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Show what a bundle holds and what its model is made of, after checking every digest in it.

    \b
    Example:
      edgekit bundle show bundles/digits-raspberry-pi-5
    """
    from edgekit.anatomy import dissect
    from edgekit.push import open_parcel
    from edgekit.unfused import unfused
    from edgekit_runtime import manifest

    parcel = open_parcel(folder)
    opened, signed = parcel.bundle, bool(parcel.signature)
    anatomy, left = dissect(opened), unfused(opened)
    document = json.loads(manifest.dump(opened.manifest))
    if as_json:
        facts = {"bundle": str(folder), "digest": opened.digest, "signed": signed, "manifest": document}
        parts = {"anatomy": anatomy.as_dict() if anatomy else None, "unfused": left.as_dict() if left else None}
        print_json({**facts, "layers": [layer.as_dict() for layer in opened.layers], **parts})
        return
    rows = [("digest", opened.digest), ("signed", "yes" if signed else "no"), *_facts(opened, document)]
    rows += _sums(anatomy) if anatomy else []
    rows += [("unfused Q/DQ", _conversions(left))] if left else []
    _print(("fact", "value"), rows)
    if anatomy:
        click.echo()
        _print(("layer", "operator", "precision", "weights", "output"), [_layer(each) for each in anatomy.layers])


@bundle.command()
@folder_argument
@json_option
def explain(folder: Path, as_json: bool) -> None:
    """Explain why each layer of a bundle's model is in the precision that it is in.

    SQNR is the power of a layer's output in float over that of what quantizing adds to it: the higher, the nearer to
    float; 6 dB more are half the error.

    \b
    Example:
      edgekit bundle explain bundles/digits-raspberry-pi-5
    """
    from dataclasses import asdict

    from edgekit.anatomy import choices
    from edgekit.push import open_parcel

    opened = open_parcel(folder).bundle
    found = choices(opened)
    if as_json:
        layers = [asdict(choice) for choice in found]
        print_json({"bundle": str(folder), "digest": opened.digest, "layers": layers})
    elif found:
        rows = [(each.name, each.precision, _decibels(each.sqnr_db), each.reason) for each in found]
        _print(("layer", "precision", "SQNR", "because"), rows)
    else:
        click.echo(f"{folder}: nothing was measured layer by layer when it was built")


@bundle.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Show what changes from bundle A to bundle B: what they say, sizes, speed, and answers to the golden vectors.

    Both models run here, turn by turn.

    \b
    Example:
      edgekit bundle diff bundles/digits-raspberry-pi-5 bundles/digits-jetson-orin
    """
    from edgekit.bundle_diff import diff as compare
    from edgekit.push import open_parcel

    first, second = open_parcel(a).bundle, open_parcel(b).bundle
    found = compare(first, second)
    if as_json:
        sides = {
            name: {"bundle": str(side.root), "digest": side.digest} for name, side in (("a", first), ("b", second))
        }
        print_json({**sides, **found.as_dict()})
    else:
        _show_difference(found)


def _print(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table; texts out of a bundle, which may be of others, do not steer the terminal."""
    from edgekit.answer import printable

    print_table(columns, [tuple(None if cell is None else printable(str(cell)) for cell in row) for row in rows], title)


def _facts(opened: Bundle, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    from edgekit.federated import lineage
    from edgekit_train.signature_trainer import NAMES

    interface, learned = opened.manifest.interface, lineage.of(opened.manifest)
    rows = [(key, document[key]) for key in ("app", "version", "sequence", "target", "format", "precision")]
    expires = opened.manifest.expires
    rows += [("expires", datetime.fromtimestamp(expires, UTC).isoformat(" "))] if expires is not None else []
    rows += [("trains by", f"its signatures {', '.join(NAMES)}")] if _trains(document) else []
    rows += [("round", learned.told)] if learned else []
    rows += [("evaluated", learned.evaluation.told)] if learned and learned.evaluation else []
    rows += [("engine", _engine(need)) for need in opened.manifest.engines]
    rows += [(f"input {spec.name}", _shape(spec)) for spec in interface.accepts.values()]
    rows += [(f"output {spec.name}", _shape(spec)) for spec in interface.outputs]
    steps = interface.postprocess.steps if interface.postprocess else ()
    rows += [("postprocess", ", ".join(step.op for step in steps))] if steps else []
    return rows + [(layer.media_type.rpartition("edgekit.")[2], kibibytes(layer.size)) for layer in opened.layers]


def _trains(document: Mapping[str, Any]) -> bool:
    """Whether the build has tried training signatures of the model, and kept them."""
    from edgekit.formats import tflite_signatures

    passes = document["provenance"].get("passes")
    return isinstance(passes, list) and tflite_signatures.KEPT in passes


def _engine(need: EngineNeed) -> str:
    providers = f" with {', '.join(need.providers)}" if need.providers else ""
    return f"{need.name} {need.version}{providers}, {need.threads} threads"


def _shape(spec: TensorSpec) -> str:
    return str(spec).partition(": ")[2]


def _sums(anatomy: Anatomy) -> list[tuple[str, str]]:
    groups = ", ".join(
        f"{total.layers} {word} ({kibibytes(total.weight_bytes)})" for word, total in anatomy.by_precision.items()
    )
    ops = ", ".join(f"{total.layers} {op}" for op, total in anatomy.by_op.items())
    needs = ", ".join(f"{name} {version}" for name, version in anatomy.needs.items())
    return [("layers", groups), ("operators", ops), ("needs", needs)]


def _conversions(left: Unfused) -> str:
    where = f"left by {left.engine}"
    if not left.pairs and not left.constants:
        return f"none {where}, {left.ends} at the ends"
    around = ", ".join(f"{number} {op}" for op, number in left.between.items())
    parts = [f"{left.pairs} pairs {where}" + (f", for {around}" if around else "")]
    parts += [f"{left.constants} of weights at every call"] if left.constants else []
    return "; ".join([*parts, f"{left.ends} at the ends"])


def _layer(layer: Layer) -> tuple[str, ...]:
    """A TFLite name joins those of all that was fused into the layer; the first will do."""
    sizes = "" if layer.shape is None else f"[{', '.join('N' if size is None else str(size) for size in layer.shape)}]"
    weights = f"{layer.weight_bytes} B" if layer.weight_bytes else ""
    return layer.name.partition(";")[0], layer.op, layer.precision, weights, sizes


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"


def _show_difference(found: Difference) -> None:
    rows = [(change.what, _json(change.a), _json(change.b)) for change in found.changes]
    rows += [(f"{each.part} bytes", str(each.a), str(each.b)) for each in found.sizes]
    _print(("what", "A", "B"), rows)
    if any(found.measured):
        click.echo()
        _print(("as measured at build", "A", "B"), list(zip(_MEASURED, *map(_built, found.measured), strict=True)))
    click.echo()
    _print(
        ("golden vectors of", "count", "B answers as A", "max error"), [_agreement(each) for each in found.behaviour]
    )
    click.echo()
    timing, (low, high) = found.timing, found.timing.ratio_quartiles
    spread = f"{timing.ratio:.2f} times A's ({low:.2f} to {high:.2f} in the middle half of {timing.rounds} rounds)"
    click.echo(f"p50 here: A {timing.a_p50_ms:.3f} ms, B {timing.b_p50_ms:.3f} ms; B's time is {spread}")
    if found.foreign:
        sides = " and ".join(side.upper() for side in found.foreign)
        click.echo(f"For another architecture than this host's, where times differ: {sides}")


_MEASURED = ("candidate", "engine", "size", "accuracy", "agreement with float", "p50 ms", "p95 ms")


def _built(built: Built | None) -> tuple[str, ...]:
    if built is None:
        return ("",) * len(_MEASURED)
    shares, latencies = (built.accuracy, built.agreement), (built.p50_ms, built.p95_ms)
    return (built.name, built.engine, kibibytes(built.size_bytes), *map(percent, shares), *map(milliseconds, latencies))


def _agreement(each: Agreement) -> tuple[str, ...]:
    error = f"{each.max_abs_error:.4g}" if each.max_abs_error < float("inf") else "other shapes, or NaN"
    return each.vectors_of.upper(), str(each.vectors), percent(each.agreement), error


def _json(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
