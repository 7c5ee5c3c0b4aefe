"""The weights of a TFLite model with training signatures: read out of it, and put back when they have learned.

They are variables. What a variable begins with is a constant: a CALL_ONCE runs a graph that assigns it (schema.fbs of
LiteRT). New weights are written there, and the file must then answer them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgekit.errors import ConversionError
from edgekit.formats import tflite_file, tflite_signatures
from edgekit.model import Format, Model, derived
from edgekit.passes.constants_tflite import Constants
from edgekit_train import signature_trainer
from edgekit_train.update import Weights

SUFFIX = "_trained"
Name = tuple[bytes, bytes]
"""Of a variable, the same in all graphs: its container, and its name there."""


def weights_of(model: Model) -> Weights:
    """Those that training starts from. Raises: ConversionError for a model without training signatures, EngineError."""
    if not _trains(model):
        raise ConversionError(
            f"{model.path.name}: is no TFLite file with the signatures {', '.join(signature_trainer.NAMES)}",
            "write as model = … in edgekit.toml one that has them",
        )
    return signature_trainer.weights_of(model.path.read_bytes())


def takes(model: Model, weights: Weights) -> bool:
    """Whether these are the weights of its signatures, by their names. Raises: EngineError."""
    return _trains(model) and weights.keys() == weights_of(model).keys()


def _trains(model: Model) -> bool:
    return model.trains and model.format is Format.TFLITE


def merged(model: Model, weights: Weights, path: Path) -> Model:
    """The model with other weights, in a new file, whose ``weights`` answers them.

    Raises: ConversionError for weights of other sizes, and for a file that they cannot be written into.
    """
    document = tflite_file.unpacked(tflite_file.serving_first(model.path.read_bytes()))
    graph = _graph(document, "weights")
    read = graph.variables_read()
    for name, index in _outputs(document, "weights").items():
        _begin(model, document, name, read.get(index), weights[name])
    path.write_bytes(tflite_file.packed(document))
    found = signature_trainer.weights_of(path.read_bytes())
    if any(found[name].tobytes() != array.astype(np.float32).tobytes() for name, array in weights.items()):
        raise _stay(model, "the file does not answer what was written into it")
    return derived(model, path, "merge-weights")


def check_serves(model: Model) -> None:
    """Raises: ConversionError where what serves takes nothing of what is trained."""
    document = tflite_file.unpacked(model.path.read_bytes())
    trained = set(_graph(document, "weights").variables_read().values())
    if not trained & set(Variables(document, document.subgraphs[0]).variables_read().values()):
        raise ConversionError(
            f"{model.path.name}: what it serves takes none of the variables that 'weights' gives",
            "export both signatures of one tf.Module, in one conversion",
        )


@dataclass(frozen=True)
class Variables:
    """Those of one of a document's graphs."""

    document: Any
    graph: Any

    def operators(self, kind: int) -> Iterator[Any]:
        for each in self.graph.operators or ():
            code = self.document.operatorCodes[each.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
                yield each

    def handles(self) -> dict[int, Name]:
        """By tensor."""
        found = self.operators(BuiltinOperator.VAR_HANDLE)
        return {each.outputs[0]: (each.builtinOptions.container, each.builtinOptions.sharedName) for each in found}

    def variables_read(self) -> dict[int, Name]:
        """By the tensor that the value lies in."""
        handles = self.handles()
        found = self.operators(BuiltinOperator.READ_VARIABLE)
        return {each.outputs[0]: handles[each.inputs[0]] for each in found if each.inputs[0] in handles}

    def assigning(self, variable: Name) -> list[Any]:
        """The operators that assign it."""
        handles = self.handles()
        return [
            each for each in self.operators(BuiltinOperator.ASSIGN_VARIABLE) if handles.get(each.inputs[0]) == variable
        ]


def _begin(model: Model, document: Any, name: str, variable: Name | None, array: np.ndarray[Any, Any]) -> None:
    """Have a variable begin with other numbers."""
    if variable is None:
        raise _stay(model, f"'weights' gives {name!r}, which is no variable as it is")
    places = [(graph, each) for graph in _beginnings(document) for each in graph.assigning(variable)]
    if len(places) != 1:
        raise _stay(model, f"{name!r} is given its first value {len(places)} times")
    graph, operator = places[0]
    constants = Constants(document, graph.graph)
    before = constants.read(operator, 1)
    if before is None or before.dtype != np.float32:
        raise _stay(model, f"{name!r} begins with no constant of float32")
    if before.shape != array.shape:
        raise ConversionError(f"{model.path.name}: {name!r} is of the shape {before.shape}, not {array.shape}")
    constants.write(operator, 1, array, SUFFIX)


def _beginnings(document: Any) -> list[Variables]:
    """The graphs that are run once, before all others."""
    found = [
        each for graph in document.subgraphs for each in Variables(document, graph).operators(BuiltinOperator.CALL_ONCE)
    ]
    numbers = {each.builtinOptions.initSubgraphIndex for each in found}
    return [Variables(document, document.subgraphs[number]) for number in sorted(numbers)]


def _graph(document: Any, key: str) -> Variables:
    return Variables(document, document.subgraphs[tflite_signatures.graph_of(document, key)])


def _outputs(document: Any, key: str) -> dict[str, int]:
    signature = next(each for each in document.signatureDefs if each.signatureKey.decode() == key)
    return {each.name.decode(): each.tensorIndex for each in signature.outputs}


def _stay(model: Model, why: str) -> ConversionError:
    return ConversionError(
        f"{model.path.name}: what was learned cannot be written into it: {why}",
        "restore it in TensorFlow and export the model again",
    )
