"""The parts of TensorFlow's SavedModel that edgekit reads, as protobuf messages made without TensorFlow.

Numbers are those of tensorflow/core/protobuf/{saved_model,meta_graph,saver}.proto and tensorflow/core/framework/
{graph,function,node_def,attr_value,tensor_shape}.proto; a map is a list of entries on the wire. What has no number
here is skipped.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "edgekit.savedmodel"
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "SavedModel": {"metas": (2, "*Meta")},
    "Meta": {
        "info": (1, "Info"),
        "graph": (2, "Graph"),
        "saver": (3, "Saver"),
        "collections": (4, "*CollectionEntry"),
        "signatures": (5, "*SignatureEntry"),
    },
    "Info": {"tags": (4, "*string")},
    "Saver": {"restore_op": (3, "string")},
    "CollectionEntry": {"key": (1, "string"), "value": (2, "Collection")},
    "Collection": {"nodes": (1, "Names")},
    "Names": {"names": (1, "*string")},
    "SignatureEntry": {"key": (1, "string"), "value": (2, "Signature")},
    "Signature": {"inputs": (1, "*TensorEntry"), "outputs": (2, "*TensorEntry")},
    "TensorEntry": {"key": (1, "string"), "value": (2, "Tensor")},
    "Tensor": {"name": (1, "string"), "dtype": (2, "int32"), "shape": (3, "Shape")},
    "Shape": {"dims": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64")},
    "Graph": {"nodes": (1, "*Node"), "library": (2, "Library")},
    "Library": {"functions": (1, "*Function")},
    "Function": {"signature": (1, "Called"), "nodes": (3, "*Node")},
    "Node": {
        "name": (1, "string"),
        "op": (2, "string"),
        "inputs": (3, "*string"),
        "attributes": (5, "*AttributeEntry"),
    },
    "AttributeEntry": {"value": (2, "Attribute")},
    "Attribute": {"list": (1, "Attributes"), "function": (10, "Called")},
    "Attributes": {"functions": (9, "*Called")},
    "Called": {"name": (1, "string")},
}
SCALARS = {"string": 9, "int32": 5, "int64": 3, "bool": 8}
"""descriptor.proto: FieldDescriptorProto.Type."""
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""tensorflow/core/framework/types.proto: DataType → numpy's word."""


def _message_class() -> Any:
    # proto3, as the originals: text that is no UTF-8 is no SavedModel.
    file = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.SavedModel"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    plain = kind.lstrip("*")
    field = message.field.add(name=name, number=number, label=3 if kind != plain else 1, type=SCALARS.get(plain, 11))
    if plain not in SCALARS:
        field.type_name = f".{PACKAGE}.{plain}"


SavedModel = _message_class()
"""``SavedModel.FromString(content)`` raises google.protobuf.message.DecodeError for what is none."""
