"""Entries: what every tool makes of one model, each in a process of its own, one after the other."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.build import making
from benchmarks.build.tasks import Task
from edgekit import environments
from edgekit import target as targets
from edgekit.building import recipe
from edgekit.building.workshop import Workshop
from edgekit.data.dataset import Dataset
from edgekit.environments import Environment
from edgekit.errors import EdgekitError
from edgekit.formats import onnx_file, tflite_file
from edgekit.model import Format, Model, derived, open_model
from edgekit.passes import all_passes
from edgekit.passes.child import Child
from edgekit.precision import Precision
from edgekit.target import Target
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "runtime"
NNCF = Environment("nncf", HERE / "nncf.txt", "130 MB to fetch")
TIMEOUT_S = 3600
LEAST_OPSET = 13
"""The first with Q/DQ per channel; older sources are brought to it for all."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """A model that takes part. ``wall_s`` is that of its process, ``cpu_s`` what it computed, on all cores; ``seconds``
    is the wall time without imports. All are 0 for a float model.

    ``more`` is what the tool told besides; an entry with an ``error`` has no model.
    """

    name: str
    format: str
    model: bytes = b""
    interface: Interface | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    seconds: float = 0.0
    error: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tool:
    """A quantizer as it is called. ``starts``: the formats of the source that it takes, a converted one included."""

    name: str
    tool: str
    flags: str
    starts: Format
    child: str = "peer_child.py"


TOOLS = (
    Tool("onnxruntime, defaults", "onnxruntime", "", Format.ONNX),
    Tool("onnxruntime, best, minmax", "onnxruntime", "MinMax", Format.ONNX),
    Tool("onnxruntime, best, entropy", "onnxruntime", "Entropy", Format.ONNX),
    Tool("onnxruntime, best, percentile", "onnxruntime", "Percentile", Format.ONNX),
    Tool("nncf, defaults", "nncf", "", Format.ONNX, "nncf_child.py"),
    Tool("nncf, best", "nncf", "best", Format.ONNX, "nncf_child.py"),
    Tool("TFLiteConverter, full int8", "tflite-converter", "int8", Format.KERAS),
    Tool("ai-edge-quantizer", "ai-edge-quantizer", "", Format.TFLITE),
)
CONTROLLED = Tool("nncf, accuracy control", "nncf-accuracy-control", "", Format.ONNX, "nncf_child.py")
CONVERTERS = (
    Tool("tf2onnx", "tf2onnx", "", Format.KERAS),
    Tool("TFLiteConverter", "tflite-converter", "", Format.KERAS),
)


class Workbench:
    """A task's float models and calibration samples, as files in a folder, and the tools set to work on them."""

    def __init__(self, task: Task, profile: Target, folder: Path, tell: Tell) -> None:
        self.task, self.profile, self.folder, self._tell = task, profile, folder, tell
        self.order = task.order(folder)
        self.source = open_model(task.model)
        self.floats, self.converted_s = self._float_models()

    def entry(self, tool: Tool) -> Entry | None:
        """None where the tool does not take this model in any form."""
        model = self.source if tool.starts is Format.KERAS else self.floats.get(tool.starts)
        if model is None or (tool.starts is Format.KERAS and model.format not in (Format.KERAS, Format.SAVED_MODEL)):
            return None
        self._tell(f"{self.task.name}: {tool.name}")
        form = "onnx" if tool.starts is Format.ONNX or tool.tool == "tf2onnx" else "tflite"
        names = next(iter(self.floats.values())) if tool.starts is Format.KERAS else model
        order = {**self._order(tool, model), "flags": tool.flags, "result": str(self._place(form))}
        return self._run(self._child(tool), order, Entry(tool.name, form), names)

    def controlled(self) -> Entry | None:
        """By NNCF under the order's budget: accuracy where there are labels, else agreement."""
        model = self.floats.get(Format.ONNX)
        if model is None:
            return None
        self._tell(f"{self.task.name}: {CONTROLLED.name}")
        labelled = self._write_feeds("evaluation", model)
        allowed = self.order.budget.max_accuracy_drop if labelled else 1 - (self.order.budget.min_agreement or 0.0)
        order = {**self._order(CONTROLLED, model), "result": str(self._place("onnx")), "max_drop": allowed}
        order["evaluation"] = str(self.folder / "evaluation.feeds.npz")
        return self._run(self._child(CONTROLLED), order, Entry(CONTROLLED.name, "onnx"), model)

    def ours(self, name: str, **changes: Any) -> Entry:
        """``changes`` of what the build is asked for: formats, precisions, budget."""
        self._tell(f"{self.task.name}: {name}")
        order = {
            "task": self.task.name,
            "made": str(making.place()),
            "data": str(self.folder),
            "target": self.profile.name,
            "source": str(self.task.model),
            "result": str(self._place("model")),
            "formats": ["onnx", "tflite"],
            "precisions": [],
            "budget": {},
            **changes,
        }
        return self._run(self._child(Tool(name, "", "", Format.ONNX, "ours_child.py")), order, Entry(name, ""), None)

    def samples(self, role: str, model: Model) -> Dataset:
        return self.order.dataset(role, Interface(model.inputs, model.outputs, self.order.preprocess))

    def float_entries(self) -> list[Entry]:
        return [self._entry(Entry("float", form.value), model) for form, model in self.floats.items()]

    def _float_models(self) -> tuple[dict[Format, Model], dict[Format, float]]:
        """By format, and the seconds that the conversions took; a format that cannot be reached is left out."""
        found, seconds = dict[Format, Model](), dict[Format, float]()
        workshop = Workshop(self.profile, self.order, self.folder / "float")
        (self.folder / "float").mkdir()
        for each in recipe.plan(self.source, self.profile, (Precision.FLOAT32,), all_passes()):
            self._tell(f"{self.task.name}: float {each.format.value}")
            started = time.perf_counter()
            with suppress(EdgekitError):
                found[each.format] = workshop.prepared(self.source, each)
                seconds[each.format] = time.perf_counter() - started
        if Format.ONNX in found:
            found[Format.ONNX] = _at_least_opset(found[Format.ONNX], self.folder / "float.onnx")
        return found, seconds

    def _order(self, tool: Tool, model: Model) -> dict[str, Any]:
        fed = model if tool.starts is not Format.KERAS else next(iter(self.floats.values()))
        self._write_feeds("calibration", fed)
        count = sum(1 for _ in self.samples("calibration", fed))
        return {
            "tool": tool.tool,
            "source": str(model.path),
            "runtime": str(RUNTIME),
            "feeds": str(self.folder / "calibration.feeds.npz"),
            "inputs": _names(tool, fed),
            "count": count,
            "signature": _signature(model),
        }

    def _write_feeds(self, role: str, model: Model) -> bool:
        """Preprocessed samples, each with its batch axis, by the number of the input; whether they have labels."""
        data = self.samples(role, model)
        rows, labels = [], []
        for sample in data:
            rows.append(data.interface.feeds(sample.inputs))
            labels.append(sample.label)
        arrays = {str(i): np.stack([row[spec.inner] for row in rows]) for i, spec in enumerate(model.inputs)}
        known = {} if None in labels else {"labels": np.array(labels)}
        np.savez(self.folder / f"{role}.feeds.npz", **arrays, **known)  # type: ignore[arg-type]
        return bool(known)

    def _place(self, suffix: str) -> Path:
        place = self.folder / str(len(list(self.folder.iterdir())))
        place.mkdir()
        return place / f"model.{suffix}"

    def _child(self, tool: Tool) -> Child:
        task = str(HERE / tool.child)
        if tool.child != "nncf_child.py":
            return Child(tool.name, task, timeout_s=TIMEOUT_S)
        return Child(tool.name, task, environments.ensure(NNCF, self._tell), TIMEOUT_S)

    def _run(self, child: Child, order: dict[str, Any], entry: Entry, names: Model | None) -> Entry:
        started, before = time.perf_counter(), _cpu_s()
        try:
            answer = child.answer(order)
            spent = {"wall_s": time.perf_counter() - started, "cpu_s": _cpu_s() - before, "seconds": answer["seconds"]}
            told = replace(entry, format=answer.get("format", entry.format), more=answer, **spent)
            place = Path(order["result"])
            return self._built(told, place) if names is None else self._entry(told, derived(names, place, entry.name))
        except EdgekitError as error:
            return replace(entry, wall_s=time.perf_counter() - started, error=error.message)

    def _entry(self, told: Entry, model: Model) -> Entry:
        interface = Interface(model.inputs, model.outputs, self.order.preprocess)
        return replace(told, model=model.path.read_bytes(), interface=interface)

    def _built(self, told: Entry, place: Path) -> Entry:
        """What our own build chose, by the names of the task's model; an error where it refused to.

        Its preprocessing may be another than the others': a part of it may have gone into the model.
        """
        if told.more["format"] is None:
            return replace(told, format="", error="; ".join(told.more["verdict"]["reasons"]))
        own, known = Interface.of(told.more["interface"]), next(iter(self.floats.values()))
        inputs, outputs = _named(own.inputs, known.inputs), _named(own.outputs, known.outputs)
        names = {spec.name: other.name for spec, other in zip(own.inputs, known.inputs, strict=True)}
        steps = {names[name]: step for name, step in own.preprocess.items()}
        return replace(told, model=place.read_bytes(), interface=Interface(inputs, outputs, steps))


def _named(specs: Sequence[TensorSpec], known: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, name=other.name, tensor=spec.inner) for spec, other in zip(specs, known, strict=True))


def _cpu_s() -> float:
    """Of all child processes that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _names(tool: Tool, model: Model) -> list[str]:
    """What the tool calls the inputs: the tensors of ONNX, the signature of TFLite, the source's own."""
    if tool.starts is Format.ONNX:
        return [spec.inner for spec in model.inputs]
    known = tflite_file.read(model.path) if tool.starts is Format.TFLITE else model
    return [spec.name for spec in known.inputs]


def _signature(model: Model) -> str:
    """The key of the signature of a TFLite model or a SavedModel."""
    if model.format is not Format.TFLITE:
        return "serving_default"
    from ai_edge_litert.interpreter import Interpreter

    return next(iter(Interpreter(model_content=model.path.read_bytes()).get_signature_list()), tflite_file.SIGNATURE)


def _at_least_opset(model: Model, path: Path) -> Model:
    document = onnx_file.load(model.path)
    if onnx_file.opset(document) >= LEAST_OPSET:
        return model
    document = onnx.version_converter.convert_version(document, LEAST_OPSET)
    onnx.save(document, path)
    return derived(model, path, "opset")


def engines_of(profile: Target, form: str, threads: int) -> Sequence[Any]:
    return targets.needs([each for each in profile.engines if each.format == form], threads)
