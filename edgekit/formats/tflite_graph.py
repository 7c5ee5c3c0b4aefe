"""The graphs of a TFLite file as frozen values, read where they lie: no bytes are copied, and a file of nested
repetitions, which unpacks to any size, is not unpacked (LiteRT schema 3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

MOST = 1 << 18
"""Operators and their inputs and outputs, together; language models have some ten thousand."""
IDENTIFIER = b"TFL3"
NO_OFFSET = 1
"""Up to it, the data of a buffer lie in it."""
OPS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
KINDS = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
RUNTIME = "min_runtime_version"


@dataclass(frozen=True)
class Tensor:
    """``kind`` is numpy's word for the numbers. ``size``: bytes of a constant's data, which lie in ``buffer``; or 0."""

    name: str
    kind: str
    quantized: bool
    shape: tuple[int | None, ...]
    buffer: int
    size: int


@dataclass(frozen=True)
class Operator:
    """Inputs and outputs are numbers of tensors; an input that was left out is not among them."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """``tensors`` has those that inputs, outputs and operators name."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]
    tensors: dict[int, Tensor]


@dataclass(frozen=True)
class File:
    """The main graph first, then those of branches, loops and first values, but none of another signature.

    ``needs``: of all of them, as in ``anatomy.Anatomy``.
    """

    graphs: tuple[Graph, ...]
    needs: dict[str, str]


def read(model: bytes) -> File:
    """Raises: ValueError, one line."""
    if model[4:8] != IDENTIFIER:
        raise ValueError("not a TFLite file")
    try:
        document = schema.Model.GetRootAs(model, 0)
        _check_size(document)
        used = [document.OperatorCodes(i) for i in range(document.OperatorCodesLength())]
        ops, others = [_op(code) for code in used], _of_other_signatures(document)
        read = (graph for number, graph in enumerate(_graphs(document)) if number not in others)
        graphs = tuple(_graph(document, graph, ops) for graph in read)
        return File(graphs, _needs(document, used))
    # An offset that leads out of the file ends in any of these, by where it leads.
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a TFLite file, or cut short ({type(error).__name__})") from error


def _graphs(document: Any) -> Iterator[Any]:
    return (document.Subgraphs(i) for i in range(document.SubgraphsLength()))


def _of_other_signatures(document: Any) -> set[int]:
    """The graphs that are run by themselves, but for the main one: those that train a model."""
    return {document.SignatureDefs(i).SubgraphIndex() for i in range(document.SignatureDefsLength())} - {0}


def _check_size(document: Any) -> None:
    parts = document.OperatorCodesLength() + document.SubgraphsLength() + document.MetadataLength()
    parts += document.SignatureDefsLength()
    for graph in _graphs(document) if parts <= MOST else ():
        parts += graph.InputsLength() + graph.OutputsLength() + graph.OperatorsLength()
        for i in range(graph.OperatorsLength() if parts <= MOST else 0):
            parts += graph.Operators(i).InputsLength() + graph.Operators(i).OutputsLength()
    if parts > MOST:
        raise ValueError(f"more than {MOST} operators and tensors")


def _graph(document: Any, graph: Any, ops: list[str]) -> Graph:
    operators = tuple(_operator(graph.Operators(i), ops) for i in range(graph.OperatorsLength()))
    inputs, outputs = _numbers(graph.InputsAsNumpy()), _numbers(graph.OutputsAsNumpy())
    used = {*inputs, *outputs, *(number for each in operators for number in (*each.inputs, *each.outputs))}
    return Graph(inputs, outputs, operators, {number: _tensor(document, graph.Tensors(number)) for number in used})


def _operator(operator: Any, ops: list[str]) -> Operator:
    inputs, outputs = _numbers(operator.InputsAsNumpy()), _numbers(operator.OutputsAsNumpy())
    return Operator(ops[operator.OpcodeIndex()], inputs, outputs)


def _numbers(array: Any) -> tuple[int, ...]:
    """Numbers of tensors; -1 stands for one that was left out, and no vector at all reads as 0."""
    return () if isinstance(array, int) else tuple(int(number) for number in array if number >= 0)


def _tensor(document: Any, tensor: Any) -> Tensor:
    scale = tensor.Quantization()
    return Tensor(
        _text(tensor.Name()),
        KINDS.get(tensor.Type(), f"type {tensor.Type()}"),
        bool(scale and scale.ScaleLength()),
        _shape(tensor),
        tensor.Buffer(),
        _stored(document, document.Buffers(tensor.Buffer())) if tensor.Buffer() else 0,
    )


def _stored(document: Any, buffer: Any) -> int:
    """Bytes of a buffer's data, which lie in it or behind the schema's part of the file."""
    data, start = buffer.DataAsNumpy(), buffer.Offset()
    behind = buffer.Size() if NO_OFFSET < start <= len(document._tab.Bytes) - buffer.Size() else 0
    return behind if isinstance(data, int) else len(data)


def _shape(tensor: Any) -> tuple[int | None, ...]:
    """As its writer declared it, where a size of -1 is free."""
    declared = tensor.ShapeSignatureAsNumpy() if tensor.ShapeSignatureLength() else tensor.ShapeAsNumpy()
    return () if isinstance(declared, int) else tuple(int(size) if size >= 0 else None for size in declared)


def _op(code: Any) -> str:
    """Files older than 2020 have the code in a field of one byte only."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return (
        _text(code.CustomCode()) if number == schema.BuiltinOperator.CUSTOM else OPS.get(number, f"operator {number}")
    )


def _needs(document: Any, codes: list[Any]) -> dict[str, str]:
    versions: dict[str, int] = {}
    for code in codes:
        versions[_op(code)] = max(versions.get(_op(code), 0), code.Version())
    runtime = [
        bytes(document.Buffers(entry.Buffer()).DataAsNumpy()).rstrip(b"\0")
        for entry in (document.Metadata(i) for i in range(document.MetadataLength()))
        if _text(entry.Name()) == RUNTIME
    ]
    found = {RUNTIME: _text(runtime[0])} if runtime else {}
    return {op: str(version) for op, version in sorted(versions.items())} | found


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")
