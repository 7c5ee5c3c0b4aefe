"""TFLite with free sizes → the same with sizes of its inputs fixed, and those of all other tensors as they follow.

In the file a tensor has a ``shape``, and where it may vary a ``shape_signature`` with -1 for what is free (schema.fbs
of LiteRT). What stays free is found by running the model at two sizes of it. Nothing that it computes changes: LiteRT
works out all sizes from those of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.errors import ConversionError
from edgekit.formats import tflite_file
from edgekit.model import Model
from edgekit.passes import Context

FREE = -1
Shapes = dict[int, tuple[int, ...]]


def write(model: Model, path: Path, context: Context) -> None:
    """Raises: ConversionError for sizes that do not go through."""
    try:
        path.write_bytes(freeze(model.path.read_bytes(), [spec.shape for spec in model.inputs]))
    except (ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:300]
        raise ConversionError(f"{model.path.name}: cannot be of the sizes in edgekit.toml: {line}") from error


def freeze(model: bytes, inputs: Sequence[tuple[int | None, ...]]) -> bytes:
    """The model with inputs of these shapes, in its order. Raises: ValueError, RuntimeError."""
    small = _shapes(model, [tuple(size or 1 for size in shape) for shape in inputs])
    large = dict(small)
    with suppress(ValueError, RuntimeError):  # some call a batch free that is not
        large = _shapes(model, [tuple(size or 2 for size in shape) for shape in inputs])
    document = tflite_file.unpacked(model)
    for index, tensor in enumerate(document.subgraphs[0].tensors):
        if index in small:
            _size(tensor, small[index], large.get(index, small[index]))
    return tflite_file.packed(document)


def _size(tensor: Any, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    signature = [one if one == other else FREE for one, other in zip(small, large, strict=True)]
    tensor.shape = np.array(small, np.int32)
    tensor.shapeSignature = np.array(signature, np.int32) if FREE in signature else None


def _shapes(model: bytes, inputs: Sequence[tuple[int, ...]]) -> Shapes:
    """What each tensor that has axes is of when the model has run on zeros."""
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=plain)
    for detail, shape in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    return {
        each["index"]: tuple(map(int, each["shape"])) for each in interpreter.get_tensor_details() if len(each["shape"])
    }
