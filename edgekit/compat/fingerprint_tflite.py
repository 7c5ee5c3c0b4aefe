"""Fingerprints of TFLite files. The version that a converter stamps is often 1, so types and sizes are kept as well."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from struct import error as StructError  # noqa: N812 — as the module's own
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgekit.compat.fingerprint import ABSENT, Fingerprint, Memory, Operator, Step, most_alive
from edgekit.errors import UnsupportedFormat
from edgekit.formats import tflite_file
from edgekit.model import Format


def _named_codes(enumeration: type) -> dict[int, str]:
    """Of the schema's enumerations, which are plain classes."""
    return {code: name for name, code in vars(enumeration).items() if not name.startswith("_")}


FLEX = "Flex"
"""The beginning of the names of TensorFlow's own operators, which only an interpreter with a delegate has."""
PLACEHOLDER = 127
"""In the old field for the operator's code: look into the new one."""
DIMENSIONS = 4
"""Up to which kernels take all sizes alike."""

BROADCASTING = frozenset(
    [
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "MAXIMUM",
        "MINIMUM",
        "POW",
        "SQUARED_DIFFERENCE",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "ATAN2",
        "PRELU",
        "BITWISE_XOR",
        "RIGHT_SHIFT",
        "EQUAL",
        "NOT_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "GREATER",
        "GREATER_EQUAL",
        "LOGICAL_AND",
        "LOGICAL_OR",
    ]
)
VARIADIC = frozenset(["CONCATENATION", "PACK", "ADD_N", "SPLIT", "SPLIT_V", "UNPACK"])
"""Operators of any number of inputs or outputs, which are all of one type."""
QUANTIZABLE = frozenset({"int2", "int4", "int8", "uint8", "int16"})
BITS = {"int2": 2, "int4": 4, "uint4": 4, "bool": 8, "float8_e4m3fn": 8, "float8_e5m2": 8}
NAMES: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
TYPES: dict[int, str] = {
    code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")
}


def read(path: Path) -> Fingerprint:
    """Raises: UnsupportedFormat."""
    data = path.read_bytes()
    try:
        return of_document(_document(data))
    except (ValueError, IndexError, StructError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UnsupportedFormat(f"{path}: not a TFLite model, or cut short", "export or copy it again") from error


def _document(data: bytes) -> Any:
    if not schema.Model.ModelBufferHasIdentifier(data, 0):
        raise ValueError("no TFLite identifier")
    return tflite_file.unpacked(data)


def of_document(document: Any) -> Fingerprint:
    """Of a ``schema.ModelT``."""
    codes = list(document.operatorCodes)
    used = [(graph, each) for graph in document.subgraphs for each in graph.operators or ()]
    operators = {_operator(graph, each, codes[each.opcodeIndex]) for graph, each in used}
    custom = {_custom_name(code) for code in codes if _builtin(code) == "CUSTOM"}
    return Fingerprint(
        Format.TFLITE,
        tuple(sorted(operators)),
        custom=tuple(sorted(name for name in custom if not name.startswith(FLEX))),
        flex=tuple(sorted(name for name in custom if name.startswith(FLEX))),
        min_runtime=_min_runtime(document),
        memory=_memory(document),
    )


def _operator(graph: Any, operator: Any, code: Any) -> Operator:
    name = _builtin(code)
    inputs, outputs = (_types(graph, row) for row in (operator.inputs, operator.outputs))
    if name in VARIADIC:
        inputs, outputs = _once(inputs), _once(outputs)
    label = _custom_name(code) if name == "CUSTOM" else name
    domain = "custom" if name == "CUSTOM" else ""
    return Operator(domain, label, code.version, inputs, outputs, _traits(graph, operator, name))


def _builtin(code: Any) -> str:
    """The newer field holds codes of any size; files from before it hold the code in the older one only."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return NAMES.get(number, f"BUILTIN_{number}")


def _custom_name(code: Any) -> str:
    name: bytes = code.customCode or b"unnamed"
    return name.decode("utf-8", "replace")


def _types(graph: Any, places: Sequence[int] | None) -> tuple[str, ...]:
    row = [ABSENT if place < 0 else type_name(graph.tensors[place]) for place in _listed(places)]
    while row and row[-1] == ABSENT:
        row.pop()
    return tuple(row)


def _once(kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kind for at, kind in enumerate(kinds) if not at or kind != kinds[at - 1])


def type_name(tensor: Any) -> str:
    """``float32``; ``qint8`` for quantized numbers, ``qint8/channel`` with a scale for each channel, ``/block``."""
    base = TYPES.get(tensor.type, f"type{tensor.type}")
    quantization = tensor.quantization
    if quantization is None or base not in QUANTIZABLE:
        return base
    if quantization.detailsType == schema.QuantizationDetails.BlockwiseQuantization:
        return f"q{base}/block"
    scales = [scale for scale in _listed(quantization.scale) if scale > 0]
    return base if not scales else f"q{base}/channel" if len(scales) > 1 else f"q{base}"


def _traits(graph: Any, operator: Any, name: str) -> tuple[str, ...]:
    shapes = [tuple(_listed(graph.tensors[place].shape)) for place in _listed(operator.inputs) if place >= 0]
    rank = max(map(len, shapes), default=0)
    traits = [f"rank {rank}"] if rank > DIMENSIONS else []
    if name in BROADCASTING and len(set(shapes)) > 1:
        traits.append("broadcast")
    return tuple(traits)


def _min_runtime(document: Any) -> str:
    for entry in document.metadata or ():
        if entry.name == b"min_runtime_version":
            stored = bytes(_listed(document.buffers[entry.buffer].data))
            return stored.rstrip(b"\0").decode("ascii", "replace")
    return ""


def _memory(document: Any) -> Memory | None:
    """Of the main graph; the interpreter plans its arena for those tensors alike."""
    graph = document.subgraphs[0]
    held = sum(len(_listed(buffer.data)) for buffer in document.buffers)
    sizes: dict[str, int | None] = {
        str(place): _bytes(tensor)
        for place, tensor in enumerate(graph.tensors)
        if not len(_listed(document.buffers[tensor.buffer].data))
    }
    ends = [str(place) for place in (*_listed(graph.inputs), *_listed(graph.outputs)) if str(place) in sizes]
    steps = [Step(_named(each.inputs), _named(each.outputs)) for each in graph.operators or ()]
    alive = most_alive(steps, sizes, ends)
    return None if alive is None else Memory(held, alive)


def _named(places: Sequence[int] | None) -> list[str]:
    return [str(place) for place in _listed(places) if place >= 0]


def _bytes(tensor: Any) -> int | None:
    base = TYPES.get(tensor.type, "")
    digits = "".join(filter(str.isdigit, base))
    bits = BITS.get(base) or int(digits or 0)
    sizes = [
        int(size) for size in _listed(tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape)
    ]
    if not bits or any(size < 0 for size in sizes[1:]):
        return None
    return (prod(max(size, 1) if not at else size for at, size in enumerate(sizes)) * bits + 7) // 8


def _listed(values: Any) -> Any:
    """The generated code gives None for an empty vector."""
    return () if values is None else values
