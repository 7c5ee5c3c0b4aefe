"""ONNX → TFLite by onnx2tf's converter without TensorFlow, in an environment of its own.

onnx2tf pins each of its packages to one version, few of them ours. It computes with channels last; inputs and outputs
keep their layout, by a TRANSPOSE in the graph. Its optimizer loses its way in some graphs, in others when constants
are folded, in others when not: what comes out is proven, and the first that holds is taken.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit import environments
from edgekit.environments import Environment
from edgekit.errors import ConversionError, EngineError, UnsupportedFormat
from edgekit.formats import onnx_file
from edgekit.model import Format, Model, derived, open_model
from edgekit.passes import Context, Pass, cutting
from edgekit.passes.child import TIMEOUT_S, Child
from edgekit.passes.cutting import cut_onnx
from edgekit.passes.layers import trace
from edgekit.passes.proof import Probe, probes_of, prove
from edgekit.passes.sizes import left_free

NAME = "onnx-to-tflite"
# onnx2tf asks for Python 3.12. All its modules compile for 3.11 as well, and what it writes is proven.
ONNX2TF = Environment("onnx2tf", Path(__file__).parent / "onnx2tf.txt", "75 MB to fetch", ("--ignore-requires-python",))
KEPT = re.compile(r"\w[\w./-]*")
"""Names that onnx2tf leaves as they are."""


def run(model: Model, context: Context) -> Model:
    """Without its end where that cannot be converted, and can be cut.

    Raises: ConversionError, DataError, EngineError, EdgekitError where the environment cannot be made.
    """
    if error := left_free(model, context):
        raise error
    return cutting.converted(model, context, _converted, cut_onnx.without_suppression)


def _converted(model: Model, context: Context) -> Model:
    child = Child("onnx2tf", "onnx2tf_child.py", environments.ensure(ONNX2TF, context.tell), TIMEOUT_S)
    probes = probes_of(model, context.feeds(model))
    result = context.work.resolve() / f"{model.path.stem}.tflite"
    errors = list[ConversionError]()
    for variant in _variants(model, probes[0], context.work.resolve()):
        try:
            _write(variant, result, child)
            converted = derived(model, result, NAME)
            prove(converted, probes, lambda index: trace(model, probes[index].inputs))
        except ConversionError as error:
            errors.append(error)
        except (EngineError, UnsupportedFormat) as error:
            name = model.path.name
            errors.append(ConversionError(f"{name}: what onnx2tf makes of it does not run: {error.message}"))
        else:
            return converted
    raise errors[-1]


def _write(model: Model, result: Path, child: Child) -> None:
    inputs = [spec.name for spec in model.inputs]
    child.answer({"source": str(model.path), "result": str(result), "inputs": inputs})


def _variants(model: Model, probe: Probe, work: Path) -> Iterator[Model]:
    """Ways to write the model for onnx2tf: constants folded or not, the layout of the outputs declared or not."""
    for name, document in (("folded", _folded(model)), ("whole", onnx_file.load(model.path))):
        _rename(document)
        for declared in (False, True) if any(len(spec.shape) > 2 for spec in model.outputs) else (False,):
            if declared:
                _declare_layout(document, probe)
            path = work / f"{name}{'-declared' * declared}" / model.path.name
            path.parent.mkdir(exist_ok=True)
            onnx.save(document, path)
            yield open_model(path)


def _folded(model: Model) -> onnx.ModelProto:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # ONNX's own operators only
        options.optimized_model_filepath = str(Path(folder, "model.onnx"))
        options.log_severity_level = 3
        ort.InferenceSession(model.path.read_bytes(), options, providers=["CPUExecutionProvider"])
        return onnx_file.load(Path(options.optimized_model_filepath))


def _rename(document: onnx.ModelProto) -> None:
    """Gives inputs and outputs that onnx2tf would call something else a name that it keeps."""
    ends = [*document.graph.input, *document.graph.output]
    plain = {end.name: f"tensor_{i}" for i, end in enumerate(ends) if not KEPT.fullmatch(end.name)}
    for end in ends:
        end.name = plain.get(end.name, end.name)
    for node in onnx_file.nodes(document.graph):
        node.input[:] = [plain.get(name, name) for name in node.input]
        node.output[:] = [plain.get(name, name) for name in node.output]


def _declare_layout(document: onnx.ModelProto, probe: Probe) -> None:
    """Flattens outputs and gives them their shape again: onnx2tf gives some with channels last, but no flat one."""
    for output, sizes in zip(document.graph.output, (array.shape for array in probe.outputs), strict=True):
        if len(sizes) < 3:
            continue
        inner, flat, shape = (f"{output.name}_{word}" for word in ("inner", "flat", "shape"))
        for node in document.graph.node:
            node.input[:] = [inner if name == output.name else name for name in node.input]
            node.output[:] = [inner if name == output.name else name for name in node.output]
        document.graph.initializer.append(numpy_helper.from_array(np.array([0, *sizes[1:]]), shape))
        document.graph.node.append(helper.make_node("Flatten", [inner], [flat]))
        document.graph.node.append(helper.make_node("Reshape", [flat, shape], [output.name]))


to_tflite = Pass(NAME, Format.ONNX, Format.TFLITE, run)
