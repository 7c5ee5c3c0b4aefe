"""Models of one node each: every operator of ONNX in every version, with every type that its schema allows.

Sizes are left open and required attributes are made up, so most of them load, or are refused, but cannot be run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper
from onnx.defs import OpSchema

NEWEST = 26
"""Of the operator sets that a release of onnxruntime knows."""
WITH_GRAPHS = ("If", "Loop", "Scan", "SequenceMap")
READ_AS_WEIGHTS = ("Constant",)
OLDEST = 7
IR_VERSION = {23: 11, 24: 13, 25: 13, 26: 13}

MADE_UP: dict[int, Any] = {
    AttributeProto.FLOAT: 1.0,
    AttributeProto.INT: 1,
    AttributeProto.STRING: "a",
    AttributeProto.FLOATS: [1.0],
    AttributeProto.INTS: [1, 1],
    AttributeProto.STRINGS: ["a", "b"],
    AttributeProto.TENSOR: helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
}


def nodes() -> Iterator[tuple[str, onnx.ModelProto]]:
    """A name and a model of each; types vary one parameter at a time."""
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx.ml"):
            for opset in _opsets(schema):
                yield from _variants(schema, opset)


def _opsets(schema: OpSchema) -> list[int]:
    """The first operator set that has this version of the operator; where it may be taken apart, the last one and
    those that its definitions were written for too.
    """
    if schema.name in (*WITH_GRAPHS, *READ_AS_WEIGHTS):
        return []
    oldest = OLDEST if not schema.domain else 1
    found = [opset for opset in range(oldest, NEWEST + 1) if _in_force(schema, opset)]
    written = {*schema.function_opset_versions, *schema.context_dependent_function_opset_versions}
    return sorted({*found[:1], *(found[-1:] if written else []), *(written & set(found))})


def _in_force(schema: OpSchema, opset: int) -> bool:
    try:
        return bool(onnx.defs.get_schema(schema.name, opset, schema.domain).since_version == schema.since_version)
    except onnx.defs.SchemaError:
        return False


def _variants(schema: OpSchema, opset: int) -> Iterator[tuple[str, onnx.ModelProto]]:
    allowed = {each.type_param_str: list(each.allowed_type_strs) for each in schema.type_constraints}
    plain = {parameter: _plain(kinds) for parameter, kinds in allowed.items()}
    changed = [{**plain, name: kind} for name, kinds in allowed.items() for kind in kinds if kind != plain[name]]
    for types in (plain, *changed):
        model = _model(schema, opset, types)
        if model is not None:
            yield f"{schema.name}-{schema.since_version}, opset {opset}, {' '.join(types.values())}", model


def _plain(kinds: list[str]) -> str:
    return next((kind for kind in ("tensor(float)", "tensor(int64)") if kind in kinds), kinds[0])


def _model(schema: OpSchema, opset: int, types: dict[str, str]) -> onnx.ModelProto | None:
    values = {place: _value(f"x{place}", types.get(kind, kind)) for place, kind in _taken(schema, types).items()}
    if None in values.values():
        return None
    inputs = [f"x{place}" if place in values else "" for place in range(max(values, default=-1) + 1)]
    outputs = [f"y{place}" for place in range(max(1, schema.min_output))]
    node = helper.make_node(schema.name, inputs, outputs, domain=schema.domain, **_attributes(schema, types))
    ends = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "graph", list(values.values()), ends)
    opsets = {"": 13, schema.domain: opset}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in opsets.items()])
    model.ir_version = IR_VERSION.get(opset, 8 if opset < 21 else 10)
    return model


def _taken(schema: OpSchema, types: dict[str, str]) -> dict[int, str]:
    """The inputs to give: those that must be, and an optional one where nothing else says its type."""
    taken: dict[int, str] = {}
    for place, formal in enumerate(schema.inputs):
        told = formal.type_str not in types or formal.type_str in taken.values()
        if place < schema.min_input or not told:
            taken[place] = formal.type_str
    return taken


def _value(name: str, kind: str) -> onnx.ValueInfoProto | None:
    element = _element(kind)
    if element not in set(TensorProto.DataType.keys()) or kind.startswith("optional("):
        return None
    make = helper.make_tensor_sequence_value_info if kind.startswith("seq(") else helper.make_tensor_value_info
    return make(name, TensorProto.DataType.Value(element), None)


def _attributes(schema: OpSchema, types: dict[str, str]) -> dict[str, Any]:
    made = {name: MADE_UP[int(each.type.value)] for name, each in schema.attributes.items() if each.required}
    told = {formal.type_str for formal in schema.inputs}
    kinds = [
        types[each.type_str] for each in schema.outputs[:1] if each.type_str in types and each.type_str not in told
    ]
    for name in {"to", "dtype", "output_dtype"} & schema.attributes.keys() if kinds else ():
        made[name] = TensorProto.DataType.Value(_element(kinds[0]))
    return made


def _element(kind: str) -> str:
    """``seq(tensor(float))`` → FLOAT."""
    return kind.removeprefix("seq(").removeprefix("tensor(").rstrip(")").upper()
