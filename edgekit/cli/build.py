"""``edgekit build``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgekit.cli import builds
from edgekit.cli.output import json_option, print_json, progress

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
    from edgekit.cli.job import read_job
    from edgekit.model import open_model

    job = read_job(model, output, flags)
    source = open_model(job.model, job.weights)
    workbench = builds.prepared(job)
    learned = _learned(job.order) if learn_from else job.order
    with progress(as_json) as tell, _timed_on(on_device, learned) as order:
        documents = workbench.write(workbench.make(source, order, tell), order.learned)
    if as_json:
        print_json({**(documents[0] if len(documents) == 1 else {}), "builds": documents})
    else:
        builds.show(documents)
    if not builds.ok(documents):
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
