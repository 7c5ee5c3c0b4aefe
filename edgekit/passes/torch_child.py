"""The task of convert_torch's child process: the only place where a program of PyTorch is loaded, or a factory called.

Writes the result and, for a conversion, an .npz of probe inputs with PyTorch's own outputs. With ``layers`` in the
order, it writes what each operator gives for that probe instead.
"""

from __future__ import annotations

import inspect
import pickle  # noqa: TID251 - for the error that torch.load raises
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.formats import torch_file
from edgekit.passes.opset_onnx import at_opset
from edgekit.passes.references import write_layers, write_probes
from edgekit.passes.write_onnx import write_onnx

FREE = 64
"""What the probes have where a size is free and the program does not say what it was exported with."""
ONNX_OPSET = 18
"""The oldest that torch.onnx writes; older ones are made from it."""


def convert(order: dict[str, Any]) -> dict[str, Any]:
    if order["format"] == "torch":
        export(order)
        return {}
    program = load(order)
    if "layers" in order:
        layers_file(program, order["probe"], probes(program, order, order["batches"])[order["layers"]])
        return {}
    {"onnx": to_onnx, "tflite": to_tflite}[order["format"]](program, order)
    write_probes(order["probe"], probes(program, order, order["batches"]), runner(program))
    return {}


def export(order: dict[str, Any]) -> None:
    """The program of a factory's module and its weights, for an example; its batch free where it can be."""
    import torch

    module = made(order["factory"], order["folder"])
    module.load_state_dict(state(Path(order["source"])))
    module.eval()
    program = free_batch(module, examples(module, order["example"], 2))
    torch.export.save(program or exported(module, examples(module, order["example"], 1), None), order["result"])


def made(factory: str, folder: str) -> Any:
    """What the factory gives; its module may lie in ``folder``. Raises: ConversionError, and whatever it raises."""
    import torch

    sys.path.append(folder)  # last: a file of the person's must not hide a module that is imported later
    module, _, name = factory.partition(":")
    model = getattr(import_module(module), name)()
    if not isinstance(model, torch.nn.Module):
        raise ConversionError(f"{factory} gave a {type(model).__name__}", "return a torch.nn.Module")
    return model


def state(path: Path) -> dict[str, Any]:
    """The tensors in a file, by name; nothing in it is executed. Raises: ConversionError."""
    import torch

    tensors: dict[str, Any]
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        tensors = load_file(path)
        return tensors
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        hint = "write model.state_dict() with safetensors, or with torch.save"
        raise ConversionError(f"it holds more than tensors, or is cut short, and was not loaded: {hint}") from error
    return tensors


def examples(module: Any, path: str, batch: int) -> dict[str, Any]:
    """A sample, ``batch`` times, by the names of ``forward``; a sample without a name is the first of them."""
    import torch

    first = next(iter(inspect.signature(module.forward).parameters))
    with np.load(path, allow_pickle=False) as file:
        arrays = {name.removeprefix("in.") or first: file[name] for name in file.files}
    return {name: torch.from_numpy(np.concatenate([array] * batch)) for name, array in arrays.items()}


def free_batch(module: Any, inputs: dict[str, Any]) -> Any | None:
    """The program of any batch; None for a module that takes just the one it is given."""
    import torch

    try:
        program = exported(module, inputs, torch.export.Dim.AUTO)
    except RuntimeError:
        return None
    return program if all(isinstance(value.shape[0], torch.SymInt) for value in inputs_of(program)) else None


def exported(module: Any, inputs: dict[str, Any], batch: Any) -> Any:
    import torch

    shapes = {name: {0: batch} for name in inputs} if batch else None
    with torch.no_grad():
        return torch.export.export(module, (), inputs, dynamic_shapes=shapes)


def load(order: dict[str, Any]) -> Any:
    """The program, from an archive in which nothing is left that runs code."""
    import torch

    clean = Path(f"{order['result']}.clean.pt2")
    torch_file.rewrite(Path(order["source"]), clean)
    return torch.export.load(clean)


def to_onnx(program: Any, order: dict[str, Any]) -> None:
    import torch

    names = {"input_names": order["inputs"], "output_names": order["outputs"]}
    document = torch.onnx.export(program, dynamo=True, opset_version=ONNX_OPSET, verbose=False, **names).model_proto
    forget_source(document)
    write_onnx(at_opset(document, order["opset"]) if order["opset"] < ONNX_OPSET else document, order)


def forget_source(document: Any) -> None:
    """Leave out what torch notes of the source code and where it lies: it is nobody's business, and differs."""
    graph = document.graph
    for part in (document, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def to_tflite(program: Any, order: dict[str, Any]) -> None:
    """For a batch of 1, unless another is asked for; the axes in their order."""
    import litert_torch

    # litert-torch would make 64-bit inputs and outputs 32-bit ones, and so change what the caller gives and gets.
    wide = any(dtype in ("float64", "int64") for dtype in order["dtypes"])
    inputs = tensors(program, probes(program, order, [1])[0])
    litert_torch.convert(flat(program), tuple(inputs), enable_x64=wide).export(order["result"])


def flat(program: Any) -> Any:
    """The program as a module that takes and gives its tensors one after the other."""
    import torch
    from torch.utils import _pytree as pytree

    class Flat(torch.nn.Module):  # type: ignore[misc]  # of a type that is not there without the extra
        def __init__(self) -> None:
            super().__init__()
            self.program = program.module()

        def forward(self, *tensors: Any) -> Any:
            args, kwargs = pytree.tree_unflatten(list(tensors), program.call_spec.in_spec)
            return tuple(pytree.tree_leaves(self.program(*args, **kwargs)))

    return Flat()


def inputs_of(program: Any) -> list[Any]:
    """The inputs that a caller gives, as torch's stand-ins for tensors of their shape and type."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return [values[name] for name in program.graph_signature.user_inputs]


def probes(program: Any, order: dict[str, Any], batches: Sequence[int]) -> list[list[Any]]:
    """Inputs between 0 and 1, of these batches where that is free, and of the sizes that the order gives."""
    rng, inputs = np.random.default_rng(0), list(zip(inputs_of(program), order["shapes"], strict=True))
    return [
        [rng.random(sizes(value, shape, batch)).astype(dtype_of(value)) for value, shape in inputs] for batch in batches
    ]


def sizes(value: Any, shape: Sequence[int | None], batch: int) -> list[int]:
    """What is free and not asked for is as the program was exported."""
    free = [batch, *(FREE if isinstance(size, int) else size.node.hint or FREE for size in value.shape[1:])]
    return [
        have if isinstance(have, int) else asked or other
        for have, asked, other in zip(value.shape, shape, free, strict=False)
    ]


def dtype_of(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def tensors(program: Any, arrays: Sequence[Any]) -> list[Any]:
    import torch

    return [torch.from_numpy(np.asarray(array)) for array, _ in zip(arrays, inputs_of(program), strict=True)]


def runner(program: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """The program as a function from a list of arrays to a list of arrays."""
    import torch

    module = flat(program)

    def run(arrays: Sequence[Any]) -> Sequence[Any]:
        with torch.no_grad():
            return [tensor.numpy() for tensor in module(*tensors(program, arrays))]

    return run


def layers_file(program: Any, path: str, arrays: Sequence[Any]) -> None:
    """What each operator gives for a probe, and which it is fed by."""
    import torch

    module, values = program.module(), dict[str, Any]()

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc]  # as above
        def run_node(self, node: Any) -> Any:
            given = super().run_node(node)
            if node.op == "call_function" and isinstance(given, torch.Tensor):
                values[node.name] = given.numpy()
            return given

    with torch.no_grad():
        Recorder(module).run(*tensors(program, arrays), enable_io_processing=False)
    fed = {
        node.name: [other.name for other in node.all_input_nodes if other.name in values] for node in module.graph.nodes
    }
    write_layers(path, values, fed)
