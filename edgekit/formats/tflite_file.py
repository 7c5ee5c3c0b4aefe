"""Reading TFLite files: what they take and give; and giving a file the signature that tools ask for."""

from __future__ import annotations

import struct
from collections.abc import Set
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import UnsupportedFormat
from edgekit.formats import tflite_signatures
from edgekit.formats.tflite_graph import NO_OFFSET
from edgekit.model import Format, Model, digest_of
from edgekit_runtime.tensors import DTYPES, TensorSpec
from edgekit_train.signature_trainer import NAMES

SIGNATURE = tflite_signatures.SERVING
IDENTIFIER = b"TFL3"


def read(path: Path) -> Model:
    """Raises: UnsupportedFormat."""
    try:
        return _model(path, path.read_bytes())
    except (ValueError, RuntimeError) as error:
        raise UnsupportedFormat(f"{path}: not a TFLite model, or cut short", "export or copy it again") from error


def _model(path: Path, data: bytes) -> Model:
    """Of a file with training signatures, the one beside them is read, wherever it stands."""
    interpreter = Interpreter(model_content=data)
    signatures = interpreter._get_full_signature_list()
    key = _serving(path, signatures.keys())
    trains = tflite_signatures.trains(signatures.keys())
    if trains:
        interpreter = Interpreter(model_content=serving_first(data))
    names = _names(signatures[key]) if key else {}
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return Model(
        path,
        Format.TFLITE,
        tuple(_spec(path, detail, names) for detail in inputs),
        tuple(_spec(path, detail, names) for detail in outputs),
        digest_of(path),
        quantized=_computes_in_integers(interpreter),
        trains=trains,
    )


def _computes_in_integers(interpreter: Interpreter) -> bool:
    """Whether what operators give is quantized; weights alone may be, in a model that computes in float."""
    given = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
    given |= {detail["index"] for detail in interpreter.get_input_details()}
    details = interpreter.get_tensor_details()
    return any(detail["quantization"][0] for detail in details if detail["index"] in given)


def _serving(path: Path, signatures: Set[str]) -> str | None:
    """The signature to serve; None for a file without any. Raises: UnsupportedFormat."""
    if tflite_signatures.trains(signatures):
        found = tflite_signatures.serving(signatures)
        if found is None:
            told = f"{path}: which of its signatures serves? {', '.join(sorted(signatures))}"
            raise UnsupportedFormat(told, f"give it one named {SIGNATURE}")
        return found
    if len(signatures) > 1:
        raise UnsupportedFormat(
            f"{path}: has {len(signatures)} signatures: {', '.join(sorted(signatures))}",
            f"convert it with one only, or with {', '.join(NAMES)} beside it",
        )
    return next(iter(signatures), None)


def _names(signature: dict[str, dict[str, int]]) -> dict[int, str]:
    """Tensor index → the name that the signature gives it; its order may be another than the graph's."""
    return {index: name for part in ("inputs", "outputs") for name, index in signature[part].items()}


def _spec(path: Path, detail: dict[str, Any], names: dict[int, str]) -> TensorSpec:
    dtype = detail["dtype"].__name__
    if dtype not in DTYPES:
        raise UnsupportedFormat(f"{path}: {detail['name']} is of a type that edgekit does not serve ({dtype})")
    signature = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    shape = tuple(None if size < 0 else int(size) for size in signature)
    return TensorSpec(names.get(detail["index"], detail["name"]), dtype, shape, detail["name"])


def with_signature(model: bytes) -> bytes:
    """The model as tools ask for it: with a signature over its inputs and outputs, which older converters did not
    write, and operators under the codes that have been theirs since schema 3a.
    """
    document = unpacked(model)
    old = [code for code in document.operatorCodes if code.builtinCode < code.deprecatedBuiltinCode]
    if document.signatureDefs and not old:
        return model
    for code in old:
        code.builtinCode = code.deprecatedBuiltinCode
    if not document.signatureDefs:
        document.signatureDefs = [_signature(document.subgraphs[0])]
    return packed(document)


def _signature(graph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs = [_named(graph, index) for index in graph.inputs]
    signature.outputs = [_named(graph, index) for index in graph.outputs]
    return signature


def serving_first(model: bytes) -> bytes:
    """A file with training signatures, so that what serves beside them is its first graph, which an engine runs.

    Raises: ValueError for a damaged one.
    """
    try:
        document = unpacked(model)
        key = tflite_signatures.serving({each.signatureKey.decode() for each in document.signatureDefs})
        place = tflite_signatures.graph_of(document, key or SIGNATURE)
        if not place:
            return model
        tflite_signatures.put_first(document, place)
        return packed(document)
    # A number that leads out of the file ends in any of these, by where it leads.
    except (LookupError, StopIteration, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"not a TFLite file, or cut short ({type(error).__name__})") from error


def unpacked(model: bytes) -> Any:
    """The file as objects of its schema, which may be changed; data that lie behind the schema's part are among them.

    The AI Edge Quantizer puts them there from 256 KiB on, which older engines do not load.
    """
    document = schema.ModelT.InitFromPackedBuf(bytearray(model), 0)
    for buffer in document.buffers:
        if buffer.offset > NO_OFFSET:
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return document


def packed(document: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(document.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _named(graph: Any, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.tensors[index].name, index
    return entry
