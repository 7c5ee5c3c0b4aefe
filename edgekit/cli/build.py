"""``edgekit build``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import json_option, kibibytes, milliseconds, percent, print_json, print_table, progress

REFUSED = 3


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, help="A target's name or alias, or your own .toml; repeatable.")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="What MODEL, as package.module:factory, is loaded with."
)
@click.option("--calibration", help="Samples that set the int8 ranges: .npz, folder of images, or module:function.")
@click.option("--evaluation", help="Samples, with labels if there are any, that float and int8 are measured on.")
@click.option("--budget", "lines", multiple=True, metavar="KEY=VALUE", help="A line of the budget; repeatable.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["float32", "int8", "mixed", "int16x8", "float16", "int8-dynamic", "int8-weights"]),
    help="Ship only this; repeatable, best first.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["tflite", "onnx"]),
    help="Build this format; repeatable (default: the model's own where the target runs it, else all that it runs).",
)
@click.option(
    "--calibrator",
    "calibrators",
    multiple=True,
    type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
    help="Set int8 ranges by this; repeatable (default: by whichever keeps most of the float model's signal).",
)
@click.option("--on", "on_device", metavar="DEVICE", help="Time the candidates on this device of fleet.toml.")
@click.option(
    "--learn-from",
    type=click.Choice(["fleet"]),
    help="Let times that the fleet's devices have reported decide; 'edgekit advise' shows them.",
)
@click.option("--app", help="The app's name on the device (default: the model's file name).")
@click.option("--output", type=click.Path(path_type=Path), help="Where the bundle goes (default: bundles/APP-TARGET).")
@json_option
def build(
    model: Path | None,
    output: Path | None,
    as_json: bool,
    on_device: str | None,
    learn_from: str | None,
    **flags: Any,
) -> None:
    """Convert, quantize, measure and sign a model for targets.

    Candidates are measured on the evaluation data by the engine that will serve. The best one that holds the budget
    becomes a signed bundle; when none does, nothing is written and the exit status is 3, with the reasons.

    \b
    Example:
      edgekit build model.onnx --target pi --target jetson \\
        --calibration calibration.npz --evaluation evaluation.npz --budget max_accuracy_drop=0.01
    """
    from edgekit import signing
    from edgekit.build import build as build_one
    from edgekit.bundle import check_place, write
    from edgekit.cli.job import read_job
    from edgekit.model import open_model

    job = read_job(model, output, flags)
    source = open_model(job.model, job.weights)
    places = [job.place(target.name) for target in job.targets]
    for place in places:
        check_place(place)
    signer = signing.signer(job.signing_key)
    learned = _learned(job.order) if learn_from else job.order
    with progress(as_json) as tell, _timed_on(on_device, learned) as order:
        outcomes = [build_one(source, target, order, tell) for target in job.targets]
        bundles = [
            write(outcome.contents, place, signer) if outcome.contents else None
            for outcome, place in zip(outcomes, places, strict=True)
        ]
    documents = [_document(*parts, learned.learned) for parts in zip(outcomes, bundles, strict=True)]
    if as_json:
        print_json({**(documents[0] if len(documents) == 1 else {}), "builds": documents})
    else:
        for document in documents:
            _show(document)
    if not all(outcome.verdict.ok for outcome in outcomes):
        raise SystemExit(REFUSED)


def _learned(order: Any) -> Any:
    """The order, with what devices of the fleet took for the app."""
    import os
    import time
    from dataclasses import replace

    from edgekit.advice.experience import timed
    from edgekit.advice.experience_store import runs
    from edgekit.cli.connect import devices_named
    from edgekit.store import Store

    names = [device.name for device in devices_named(())]
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        return replace(order, learned=tuple(timed(runs(store, names, order.app, time.time()))))


@contextmanager
def _timed_on(name: str | None, order: Any) -> Iterator[Any]:
    """The order, with a clock on a device where one is named."""
    from dataclasses import replace

    from edgekit.cli.connect import connected, devices_named
    from edgekit.timing import DeviceClock

    if name is None:
        yield order
        return
    (device,) = devices_named((name,))
    with connected(device, accept_new_host_key=False) as transport:
        yield replace(order, clock=DeviceClock(device.name, transport))


def _document(outcome: Any, bundle: Any, learned: Any) -> dict[str, Any]:
    from dataclasses import asdict

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
