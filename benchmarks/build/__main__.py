"""The command: one table a model, and under it what was promised of it. See ``benchmarks/README.md``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks.build import contest, making, promises, tasks
from benchmarks.build.contest import Row
from benchmarks.build.entries import CONVERTERS, TOOLS, Entry, Workbench
from benchmarks.build.promises import Promise
from edgekit import target as targets
from edgekit.budget import Budget
from edgekit.cli.output import print_table
from edgekit.errors import EdgekitError
from edgekit.model import Format

COLUMNS = (
    "entry", "engine", "accuracy", "agreement", "KiB", "p50 ms", "range of p50", "p95 ms", "unfused", "float layers",
    "wall s", "CPU s", "without imports", "plain budget",
)  # fmt: skip
CALLED = ("onnxruntime, best, minmax", "ai-edge-quantizer")


@click.command()
@click.option("--only", "names", multiple=True, help="Only the tasks of these names.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all that was measured to a file.")
@click.option("--target", default="generic-x86-64", show_default=True)
def main(names: tuple[str, ...], file: Path | None, target: str) -> None:
    """Builds by edgekit against other quantizers, side by side."""
    documents = {}
    for task in (*tasks.PRETRAINED, *tasks.made(making.make(tell))):
        if names and task.name not in names:
            continue
        if task.missing:
            print(f"{task.name}: skipped, there is no {task.missing}\n")
            continue
        try:
            documents[task.name] = compare(task, targets.load(target))
        except EdgekitError as error:
            print(f"{task.name}: skipped: {error}\n")
        if file:
            file.write_text(json.dumps(documents, indent=1))


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def compare(task: tasks.Task, profile: targets.Target) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as name:
        folder = Path(name)
        task.data.write(folder)
        bench = Workbench(task, profile, folder, tell)
        floats, ours = bench.float_entries(), _ours(bench)
        peers = [entry for entry in map(bench.entry, TOOLS) if entry]
        controlled = [entry for entry in [bench.controlled()] if entry]
        calls = _calls(bench, [entry for entry in map(bench.entry, CONVERTERS) if entry], peers)
        tell(f"{task.name}: measuring")
        samples = bench.samples("evaluation", next(iter(bench.floats.values())))
        rows = contest.hold([*floats, *ours, *peers, *controlled], samples, profile, bench.order.budget)
    parts = iter(rows)
    _, *groups = (list(islice(parts, len(each))) for each in (floats, ours, peers, controlled))
    kept = _promises(groups[0], groups[1], groups[2], sum(calls.values()))
    show(task, rows, kept, calls)
    return {"rows": [row.as_dict() for row in rows], "promises": [asdict(each) for each in kept], "calls_s": calls}


def _promises(ours: Sequence[Row], peers: Sequence[Row], controlled: Sequence[Row], calls_s: float) -> list[Promise]:
    """Of the build as anyone runs it, of those for one engine, and against NNCF's accuracy control."""
    kept = promises.all_of(ours[0], peers, calls_s)
    for row in ours[1:]:
        same = [each for each in peers if each.entry.format == row.entry.format and each.engine]
        told = promises.against(row, same) if same else []
        kept += [replace(each, name=f"{row.entry.name}: {each.name}") for each in told]
    kept += [promise for row in ours if (promise := promises.saved(row))]
    return [*kept, *(each for row in controlled for each in promises.against_control(ours[1], row))]


def _ours(bench: Workbench) -> list[Entry]:
    """The build as anyone runs it, then one an engine; that on ONNX quantizes in any case, as NNCF does."""
    budget = bench.order.budget
    labelled = next(iter(bench.samples("evaluation", next(iter(bench.floats.values()))))).label is not None
    alone = Budget(budget.max_accuracy_drop, None) if labelled else budget
    made = [bench.ours("edgekit")]
    if Format.ONNX in bench.floats:
        wanted = {"precisions": ["int8", "mixed"], "budget": msgspec.structs.asdict(alone)}
        source = str(bench.floats[Format.ONNX].path)
        made.append(bench.ours("edgekit, from ONNX, int8 or mixed", source=source, formats=["onnx"], **wanted))
    if Format.TFLITE in bench.floats:
        made.append(bench.ours("edgekit, TFLite", formats=["tflite"]))
    return made


def _calls(bench: Workbench, converters: Sequence[Entry], peers: Sequence[Entry]) -> dict[str, float]:
    """Seconds of what a build calls, each in a process of its own; a conversion by onnx2tf as the build ran it."""
    done = (*converters, *(entry for entry in peers if not entry.error))  # a conversion costs its time, sound or not
    known = {entry.name: entry.wall_s for entry in done}
    found = {name: seconds for name, seconds in known.items() if name in (*CALLED, "tf2onnx", "TFLiteConverter")}
    if not converters:
        found |= {f"float {form.value}": seconds for form, seconds in bench.converted_s.items()}
    return found


def show(task: tasks.Task, rows: Sequence[Row], kept: Sequence[Promise], calls: dict[str, float]) -> None:
    print_table(COLUMNS, [_cells(row) for row in rows], title=f"{task.name}: {task.about}")
    print("a build calls: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in calls.items()))
    for each in kept:
        print(f"{'yes' if each.kept else 'NO '}  {each.name}: {each.told}")
    print(flush=True)


def _cells(row: Row) -> tuple[object, ...]:
    if not row.engine:
        return (row.entry.name, "", *[""] * 8, f"{row.entry.wall_s:.1f}", "", "", "; ".join(row.refused)[:200])
    ms = row.latency_ms
    within = row.entry.more.get("measured", [])
    chosen = next((f", {each['name']} {each['calibrator']}".rstrip() for each in within if each["chosen"]), "")
    return (
        row.entry.name + chosen,
        row.engine,
        "" if row.accuracy is None else f"{row.accuracy:.4f}",
        f"{row.agreement:.4f}",
        f"{row.size_bytes / 1024:.1f}",
        f"{ms.p50:.3f}",
        f"{ms.p50_low:.3f}–{ms.p50_high:.3f}",
        f"{ms.p95:.3f}",
        row.pairs,
        row.float_layers,
        f"{row.entry.wall_s:.1f}" if row.entry.wall_s else "",
        f"{row.entry.cpu_s:.1f}" if row.entry.wall_s else "",
        f"{row.entry.seconds:.1f}" if row.entry.wall_s else "",
        "refused: " + "; ".join(row.refused) if row.refused else "holds",
    )


if __name__ == "__main__":
    main()
