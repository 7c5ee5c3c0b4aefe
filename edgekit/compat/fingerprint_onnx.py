"""Fingerprints of ONNX files: types are followed through the graph, through branches and contributed operators too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, TypeProto, inliner

from edgekit.compat.fingerprint import ABSENT, SHARED_AXIS, UNKNOWN, Fingerprint, Memory, Operator, Step, most_alive
from edgekit.compat.ort_kernels import CONTRIB, DOMAINS, contributed
from edgekit.errors import UnsupportedFormat
from edgekit.model import Format
from edgekit_runtime.engines.external import names_files

Scope = dict[str, str]
"""Types by the names of tensors."""

DEFAULT_AXIS = 1
FOLLOWS = {"QGemm": (8, "float")}
"""Contributed operators whose output is of the type of an optional input, or of another where that is left out."""
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
DEFAULTS = {"ConstantOfShape": "float", "RandomNormal": "float", "RandomUniform": "float", "Multinomial": "int32"}
"""The output's type where no attribute says it."""


def read(path: Path) -> Fingerprint:
    """Raises: UnsupportedFormat."""
    try:
        data = path.read_bytes()
        return of_model(onnx.load_model_from_string(data), external=names_files(data))
    except (DecodeError, ValueError, TypeError, OSError) as error:  # names that are no UTF-8 come as bytes
        raise UnsupportedFormat(f"{path}: not an ONNX model, or cut short", "export or copy it again") from error


def of_model(model: onnx.ModelProto, *, external: bool = False) -> Fingerprint:
    """Functions that the model brings along are taken apart first, as engines do."""
    model = onnx.shape_inference.infer_shapes(inliner.inline_local_functions(model) if model.functions else model)
    opsets = {entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in model.opset_import}
    operators = set(_Reader(opsets).operators(model.graph, {}))
    return Fingerprint(
        Format.ONNX,
        tuple(sorted(operators)),
        model.ir_version,
        tuple(sorted(opsets.items())),
        external,
        custom=tuple(sorted({each.label for each in operators if each.domain not in DOMAINS})),
        memory=_memory(model.graph),
    )


@dataclass
class _Reader:
    """Goes through graphs in order; a tensor's type is known before it is used."""

    opsets: dict[str, int]
    bodies: dict[bytes, tuple[Operator, ...]] = field(default_factory=dict)

    def operators(self, graph: onnx.GraphProto, outer: Mapping[str, str]) -> Iterator[Operator]:
        scope = {**outer, **_declared(graph)}
        taken = Counter(name for node in graph.node for name in node.input)
        for node in graph.node:
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    yield from self.operators(inner, scope)
            shared = node.op_type == "DequantizeLinear" and taken[node.output[0]] > 1 and _axis(node) != DEFAULT_AXIS
            yield replace(self._operator(node, scope), traits=(SHARED_AXIS,) if shared else ())

    def _operator(self, node: onnx.NodeProto, scope: Scope) -> Operator:
        domain = "" if node.domain == "ai.onnx" else node.domain
        inputs = tuple(scope.get(name, UNKNOWN) if name else ABSENT for name in node.input)
        schema = self._schema(domain, node.op_type)
        for name, kind in zip(node.output, _given(node, inputs, schema), strict=False):
            scope.setdefault(name, kind)
        outputs = tuple(scope.get(name, UNKNOWN) if name else ABSENT for name in node.output)
        version = schema.since_version if schema else self.opsets.get(domain, 1)
        body = self._body(node, inputs, schema) if schema else ()
        return Operator(domain, node.op_type, version, inputs, outputs, body=body)

    def _schema(self, domain: str, name: str) -> onnx.defs.OpSchema | None:
        try:
            return onnx.defs.get_schema(name, self.opsets.get(domain, 1), domain)
        except (onnx.defs.SchemaError, TypeError):  # a damaged file may name a version that is no int32
            return None

    def _body(self, node: onnx.NodeProto, inputs: Sequence[str], schema: onnx.defs.OpSchema) -> tuple[Operator, ...]:
        """The operators that the node's definition is made of; none where it has none for the model's operator set."""
        opset = self.opsets.get(schema.domain, 1)
        written = [*schema.function_opset_versions, *schema.context_dependent_function_opset_versions]
        if not any(each <= opset for each in written):
            return ()
        model = _alone(_complete(node, schema), inputs, self.opsets)
        key = model.SerializeToString(deterministic=True)
        if key not in self.bodies:
            self.bodies[key] = ()  # a definition never uses itself; where one does, it ends here
            parts, fixed = self._parts(model, node), [each for each in schema.function_opset_versions if each <= opset]
            holds = not fixed or all(_unchanged(part, max(fixed)) for part in parts)
            self.bodies[key] = parts if holds else ()
        return self.bodies[key]

    def _parts(self, model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[Operator, ...]:
        try:
            opened = inliner.inline_selected_functions(
                model, [(node.domain, node.op_type)], inline_schema_functions=True
            )
            inferred = onnx.shape_inference.infer_shapes(opened)
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
            return ()
        parts = tuple(sorted(set(self.operators(inferred.graph, {}))))
        return () if any(part.name == node.op_type for part in parts) else parts


def _unchanged(part: Operator, opset: int) -> bool:
    """Whether the operator is what it was in the operator set that a fixed definition was written for.

    Definitions that are made for each node are taken as they are (``OpSchema::GetFunction`` in onnx).
    """
    try:
        return bool(onnx.defs.get_schema(part.name, opset, part.domain).since_version == part.version)
    except onnx.defs.SchemaError:
        return False


def _axis(node: onnx.NodeProto) -> int:
    named: list[int] = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    return named[0] if named else DEFAULT_AXIS


def _complete(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> onnx.NodeProto:
    """The node with its defaults written out; a definition refers to them."""
    whole, given = onnx.NodeProto(), {attribute.name for attribute in node.attribute}
    whole.CopyFrom(node)
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            whole.attribute.append(attribute.default_value)
    return whole


def _alone(node: onnx.NodeProto, inputs: Sequence[str], opsets: Mapping[str, int]) -> onnx.ModelProto:
    """A model of that one node, its tensors by their places."""
    single = onnx.NodeProto()
    single.CopyFrom(node)
    del single.input[:], single.output[:]
    single.name = ""
    single.input.extend(f"i{at}" if name else "" for at, name in enumerate(node.input))
    single.output.extend(f"o{at}" if name else "" for at, name in enumerate(node.output))
    kinds = [(name, _element(kind)) for name, kind in zip(single.input, inputs, strict=True) if name]
    values = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in single.output if name]
    graph = onnx.helper.make_graph([single], "node", values, ends)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)


def _declared(graph: onnx.GraphProto) -> Scope:
    weights = {tensor.name: element_name(tensor.data_type) for tensor in graph.initializer}
    sparse = {each.values.name: element_name(each.values.data_type) for each in graph.sparse_initializer}
    values = {each.name: type_name(each.type) for each in (*graph.input, *graph.output, *graph.value_info)}
    return {**{name: kind for name, kind in values.items() if kind != UNKNOWN}, **weights, **sparse}


def _given(node: onnx.NodeProto, inputs: Sequence[str], schema: onnx.defs.OpSchema | None) -> list[str]:
    """The outputs' types, by the operator's schema and the attributes that name a type."""
    if schema:
        takes, gives = ([_short(each.type_str) for each in part] for part in (schema.inputs, schema.outputs))
        fixed = {each.type_param_str: [_short(t) for t in each.allowed_type_strs] for each in schema.type_constraints}
    elif node.domain == CONTRIB:
        (takes, gives), fixed = contributed(node.op_type), {}
    else:
        return []
    bound = {parameter: kinds[0] for parameter, kinds in fixed.items() if len(kinds) == 1}
    for at, kind in enumerate(inputs):
        if takes and kind not in (ABSENT, UNKNOWN):
            bound[takes[min(at, len(takes) - 1)]] = kind
    if not schema and node.op_type in FOLLOWS:
        place, otherwise = FOLLOWS[node.op_type]
        bound[gives[0]] = inputs[place] if len(inputs) > place and inputs[place] != ABSENT else otherwise
    kinds = [bound.get(parameter, parameter if parameter in ELEMENTS else UNKNOWN) for parameter in gives]
    named = _named_type(node)
    if named and kinds and (schema is None or gives[0] not in takes or node.op_type in ("QuantizeLinear", "EyeLike")):
        kinds[0] = named
    last = kinds[-1:] * max(0, len(node.output) - len(kinds))
    return [*kinds, *last]


def _named_type(node: onnx.NodeProto) -> str | None:
    for attribute in node.attribute:
        if attribute.name in TYPE_ATTRIBUTES and attribute.i:
            return element_name(attribute.i)
        if attribute.name == "value" and attribute.type == onnx.AttributeProto.TENSOR:
            return element_name(attribute.t.data_type)
    return DEFAULTS.get(node.op_type)


def type_name(kind: TypeProto) -> str:
    """As onnxruntime's kernels name it, less the word tensor: ``float``, ``seq(tensor(int64))``."""
    if kind.HasField("tensor_type"):
        return element_name(kind.tensor_type.elem_type)
    if kind.HasField("sequence_type"):
        return f"seq({_long(type_name(kind.sequence_type.elem_type))})"
    if kind.HasField("optional_type"):
        return f"optional({_long(type_name(kind.optional_type.elem_type))})"
    if kind.HasField("map_type"):
        key, value = element_name(kind.map_type.key_type), type_name(kind.map_type.value_type)
        return f"map({key},{_long(value)})"
    if kind.HasField("sparse_tensor_type"):
        return f"sparse_tensor({element_name(kind.sparse_tensor_type.elem_type)})"
    return UNKNOWN


def element_name(kind: int) -> str:
    return ELEMENT_NAMES.get(kind, UNKNOWN)


ELEMENT_NAMES: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items() if number}
ELEMENTS = frozenset(ELEMENT_NAMES.values())
PACKED = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4e2m1": 4}
"""Bits of the types of which several share a byte."""


def _element(kind: str) -> int:
    numbers = [number for number, name in ELEMENT_NAMES.items() if name == kind]
    return numbers[0] if numbers else TensorProto.UNDEFINED


def _short(kind: str) -> str:
    return kind[len("tensor(") : -1] if kind.startswith("tensor(") else kind


def _long(kind: str) -> str:
    return f"tensor({kind})" if kind in ELEMENTS else kind


def _memory(graph: onnx.GraphProto) -> Memory | None:
    """None where a size is not known before the model runs."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    values = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    sizes: dict[str, int | None] = {
        name: None for node in graph.node for name in (*node.input, *node.output) if name and name not in weights
    }
    sizes |= {name: _bytes(value.type.tensor_type) for name, value in values.items() if name not in weights}
    ends = [value.name for value in (*graph.input, *graph.output) if value.name not in weights]
    steps = [Step([n for n in node.input if n], [n for n in node.output if n]) for node in graph.node]
    activations = most_alive(steps, sizes, ends)
    if activations is None:
        return None
    held = sum(_size(tensor.data_type, prod(tensor.dims)) for tensor in weights.values())
    return Memory(held, activations)


def _bytes(kind: TypeProto.Tensor) -> int | None:
    """Of one sample: the first size may be free, any other has to be known."""
    if not kind.elem_type or not kind.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    if None in sizes[1:]:
        return None
    return _size(kind.elem_type, prod(size or 1 for size in sizes))


def _size(kind: int, count: int) -> int:
    """Bytes; numbers of less than one byte are packed."""
    bits = PACKED.get(element_name(kind)) or 8 * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    return (count * bits + 7) // 8
