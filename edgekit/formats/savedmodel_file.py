"""Reading a SavedModel: what its signature takes and gives, and whether it would do more than compute when loaded.

A SavedModel is a program: its operations may call Python, read and write files or speak to other machines. So the
graph is read here, before any framework sees it; the model itself is loaded by a child process only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from edgekit.errors import UnsupportedFormat
from edgekit.formats.savedmodel_schema import DTYPES as NUMBERS
from edgekit.formats.savedmodel_schema import SavedModel
from edgekit.model import Format, Model, digest_of
from edgekit_runtime.tensors import DTYPES, TensorSpec
from edgekit_train.signature_trainer import NAMES

FILE = "saved_model.pb"
TAG = "serve"
DEFAULT = "serving_default"
"""The signature to serve where there are several: Keras exports the same again as "serve"."""
INITIALIZER = "__saved_model_init_op"
INITIALIZERS = frozenset({"saved_model_main_op", "legacy_init_op"})
"""The collections that name what TensorFlow 1 runs after loading."""
LARGEST = 1 << 30
MORE_THAN_COMPUTE = re.compile(
    r"_?(\w*PyFunc\w*|\w*File(?!name|spec)\w*|\w*Dataset\w*|\w*Reader\w*|\w*SummaryWriter\w*|CreateSummary\w*|"
    r"Write\w*Summary|ImportEvent|Debug\w*|PrintV2|ImmutableConst|LoadAndRemapMatrix|GenerateVocabRemapping|"
    r"RecordInput|(De|En)codeProto\w*|\w*Rpc\w*|\w*Send|\w*Recv|RemoteCall|Collective\w*|DistributedSave|"
    r"Save|SaveSlices|Restore|RestoreSlice|TRTEngineOp|XlaLaunch\w*)"
)
"""Operations that run Python, touch files by name or speak to others; those that print may print into a file."""
WRITES = re.compile("SaveV2|MergeV2Checkpoints")
CHECKPOINTS = re.compile(f"RestoreV2|{WRITES.pattern}")
"""Every SavedModel has these, to read its own variables; nothing but that may run them."""


@dataclass(frozen=True)
class Signature:
    """What a SavedModel serves; tensors by their names in the graph, in the order of their names in it.

    ``trains``: whether there are training signatures beside it.
    """

    key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    trains: bool = False


def read(path: Path) -> Model:
    """The model in a folder. Raises: UnsupportedFormat."""
    signature = signature_of(path)
    return Model(
        path, Format.SAVED_MODEL, signature.inputs, signature.outputs, folder_digest(path), trains=signature.trains
    )


def signature_of(path: Path) -> Signature:
    """Raises: UnsupportedFormat also for a graph that would do more than compute."""
    meta = _meta(path)
    _refuse_more_than_compute(path, meta)
    signatures = {entry.key: entry.value for entry in meta.signatures if entry.key != INITIALIZER}
    key = DEFAULT if DEFAULT in signatures else next(iter(signatures), "")
    if len(signatures) != 1 and key != DEFAULT:
        how_many = f"{len(signatures)} signatures: {', '.join(sorted(signatures))}" if signatures else "no signature"
        raise UnsupportedFormat(f"{path}: has {how_many}", f"save it with one named {DEFAULT}")
    signature = signatures[key]
    if not signature.inputs or not signature.outputs:
        raise UnsupportedFormat(f"{path}: signature {key} takes or gives nothing", "save it with inputs and outputs")
    trains = signatures.keys() >= set(NAMES)
    return Signature(key, _specs(path, signature.inputs), _specs(path, signature.outputs), trains)


def folder_digest(path: Path) -> str:
    """The ``sha256:…`` of the names and contents of all files in the folder."""
    lines = [f"{file.relative_to(path)} {digest_of(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


def _meta(path: Path) -> Any:
    try:
        with (path / FILE).open("rb") as file:
            model = SavedModel.FromString(file.read(LARGEST))
    except (DecodeError, OSError) as error:
        raise UnsupportedFormat(f"{path}: not a SavedModel, or cut short", "save or copy it again") from error
    metas = [meta for meta in model.metas if TAG in meta.info.tags]
    if len(metas) != 1:
        raise UnsupportedFormat(f"{path}: has {len(metas)} graphs to serve", "save it with tf.saved_model.save()")
    return metas[0]


def _specs(path: Path, entries: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(path, entry.key, entry.value) for entry in sorted(entries, key=lambda entry: str(entry.key)))


def _spec(path: Path, name: str, tensor: Any) -> TensorSpec:
    dtype = NUMBERS.get(tensor.dtype, "none")
    if dtype not in DTYPES:
        raise UnsupportedFormat(f"{path}: {name} is of a type that edgekit does not serve ({dtype})")
    if tensor.shape.unknown_rank:
        raise UnsupportedFormat(f"{path}: {name} has no shape", "save it with an input signature")
    return TensorSpec(name, dtype, tuple(dim.size if dim.size >= 0 else None for dim in tensor.shape.dims), tensor.name)


def _refuse_more_than_compute(path: Path, meta: Any) -> None:
    everything = (*meta.graph.nodes, *(node for body in meta.graph.library.functions for node in body.nodes))
    served = [tensor.value.name for entry in meta.signatures for tensor in entry.value.outputs]
    started = [name for entry in meta.collections if entry.key in INITIALIZERS for name in entry.value.nodes.names]
    for forbidden, nodes in (
        (MORE_THAN_COMPUTE, everything),
        (CHECKPOINTS, _run_for(meta.graph, [*served, *started])),
        (WRITES, _run_for(meta.graph, [meta.saver.restore_op])),
    ):
        for node in nodes:
            if forbidden.fullmatch(node.op):
                raise UnsupportedFormat(
                    f"{path}: {node.name!r} is a {node.op}, which does more than compute; it was not loaded",
                    "save the model without it, or export it to ONNX yourself",
                )


def _run_for(graph: Any, names: Iterable[str]) -> Iterator[Any]:
    """All nodes that run for some tensors or operations of the graph, those of called functions included."""
    nodes = {node.name: node for node in graph.nodes}
    bodies = {body.signature.name: list(body.nodes) for body in graph.library.functions}
    names_left, bodies_left = set(nodes), set(bodies)
    waiting = [(nodes[name], True) for name in map(_node_name, names) if name in nodes]
    while waiting:
        node, outermost = waiting.pop()
        yield node
        for name in bodies_left & set(_called(node)):  # all nodes of a function run; their names are its own
            bodies_left.remove(name)
            waiting += [(inner, False) for inner in bodies[name]]
        for name in names_left & set(map(_node_name, node.inputs)) if outermost else ():
            names_left.remove(name)
            waiting.append((nodes[name], True))


def _node_name(tensor: str) -> str:
    """The operation behind ``^name``, ``name`` or ``name:0``."""
    return tensor.lstrip("^").partition(":")[0]


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for attribute in node.attributes:
        yield attribute.value.function.name
        yield from (called.name for called in attribute.value.list.functions)
