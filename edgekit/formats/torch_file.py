"""Reading PyTorch programs (``.pt2``, torch.export.save) without PyTorch, and writing them anew without what runs code.

``torch.export.load`` unpickles the example inputs, and weights and constants of some names or marked so; it runs
compiled code that lies in the archive (AOTInductor); it evaluates sizes as Python, imports what the tree of inputs
names, takes any function below ``torch`` for an operator, and writes names and guards into source code that it
executes. So a program is read here as plain JSON: every word of it is of a known form, every operator one of ATen that
computes. What torch then loads is an archive written from just that: no pickles, no guards, no metadata. Weights of a
model given as ``package.module:factory`` are safetensors or a state dict; a pickled module (``.pt``) is never loaded.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.errors import UnsupportedFormat
from edgekit.model import FACTORY, Format, Model, digest_of
from edgekit_runtime.tensors import TensorSpec

MODEL, CONFIGS = (
    "models/model.json",
    ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"),
)
SAMPLE = "data/sample_inputs/model.pt"
COMPILED = "data/aotinductor/"
DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError)
"""What zipfile and json raise for what is not whole; a RecursionError is a RuntimeError."""
MISFORMED = (AttributeError, IndexError, KeyError, TypeError)
"""What comes of JSON that is not built as torch builds it."""

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
WHOLE = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 28: "uint16", 34: "uint32", 35: "uint64"}
DTYPES = {**WHOLE, 6: "float16", 7: "float32", 8: "float64", 12: "bool"}
"""torch._export.serde.schema.ScalarType, as far as edgekit serves it."""

WORD = re.compile(r"-?[\w.]*", re.ASCII)
"""Names of tensors, parameters and arguments: what may stand in the source code that torch makes of them."""
OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!(?:save|from_file)\b)(?:_?[a-z]\w*|__(?:and|or|xor|lshift|rshift)__)\.[A-Za-z]\w*|"
    r"torch\.ops\.higher_order\.(?:cond|wrap_with_set_grad_enabled|wrap_with_autocast)|"
    r"_operator\.(?:add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow|rshift|sub|truediv)|"
    r"math\.trunc|torch\.(?:sym_float|sym_int|sym_ite|sym_max|sym_min|sym_not|_sym_sqrt)",
    re.ASCII,
)
"""Operators that only compute. ``aten::save`` writes a file, ``aten::from_file`` maps one."""
SIZE = re.compile(
    r"(?:[\s,()\d]|-\d|\d\.\d|'[A-Za-z]\w*'|(?:integer|nonnegative|positive|real)=(?:True|False)|true\b|false\b|"
    r"(?:Add|And|CeilDiv|CeilToInt|CleanDiv|Equality|FloatPow|FloatTrueDiv|FloorDiv|FloorToInt|GreaterThan|Identity|"
    r"IntTrueDiv|Integer|LessThan|Max|Min|Mod|ModularIndexing|Mul|Not|Or|Pow|PowByNatural|PythonMod|Rational|"
    r"RoundToInt|StrictGreaterThan|StrictLessThan|Symbol|ToFloat|TruncToFloat|TruncToInt|Unequality|Where)\()*",
    re.ASCII,
)
"""A free size as sympy's srepr writes it; SymPy reads it by ``eval``."""
PAYLOAD = re.compile(r"(?:tensor|weight)_\d+", re.ASCII)
"""Parts that are plain bytes. Those of other names torch unpickles, whatever the configuration says of them."""
FORMS = {"expr_str": SIZE, "path_name": PAYLOAD}
SEQUENCES = ("builtins.list", "builtins.tuple")
MAPPINGS = ("builtins.dict", "collections.OrderedDict")


def read(path: Path) -> Model:
    """The program, with the names of its inputs as the exported ``forward`` has them.

    Its outputs are named by the keys of the dict that it returns; else ``output``, or ``output_0``, ``output_1``, …
    where it returns several. Raises: UnsupportedFormat.
    """
    with _parts(path) as part:
        module = _program(path, part)["graph_module"]
        for name in CONFIGS:
            _payload(path, part, name)
        _refuse_training(path, module["graph"])
        tree = json.loads(module["module_call_graph"][0]["signature"]["out_spec"])[1]
        inputs = [_tensor(path, spec, "user_input") for spec in module["signature"]["input_specs"] if _given(spec)]
        outputs = [_tensor(path, spec, "user_output") for spec in module["signature"]["output_specs"]]
        return Model(
            path,
            Format.TORCH,
            tuple(_spec(path, module["graph"], tensor, tensor) for tensor in inputs),
            tuple(_spec(path, module["graph"], *pair) for pair in zip(outputs, _leaves(tree), strict=True)),
            digest_of(path),
        )


def read_factory(factory: str, weights: Path | None) -> Model:
    """A model of code and weights, not yet looked into. Raises: UnsupportedFormat."""
    if weights is None or not weights.is_file():
        trouble = f"{weights}: no such file of weights" if weights else f"{factory}: needs its weights"
        raise UnsupportedFormat(trouble, "give a safetensors file or a state dict with --weights FILE")
    if weights.suffix.lower() not in WEIGHTS:
        raise UnsupportedFormat(f"{weights}: no weights that edgekit reads", f"known: {', '.join(WEIGHTS)}")
    if not FACTORY.fullmatch(factory):
        raise UnsupportedFormat(f"{factory}: has no use for weights", "name the model's code: package.module:factory")
    return Model(weights, Format.TORCH_MODULE, (), (), digest_of(weights), factory=factory)


def rewrite(path: Path, clean: Path) -> None:
    """Write the program without anything that runs code, for torch to load. Raises: UnsupportedFormat."""
    with _parts(path) as part, zipfile.ZipFile(clean, "w") as archive:
        texts = {"archive_format": "pt2", "archive_version": "0", "byteorder": "little", SAMPLE: ""}
        texts |= {".data/version": "6\n", MODEL: json.dumps(_program(path, part))}
        for name in CONFIGS:
            config, folder = _payload(path, part, name), name.rpartition("/")[0]
            texts[name] = json.dumps(config)
            for member in sorted({f"{folder}/{entry['path_name']}" for entry in config["config"].values()}):
                archive.writestr(f"model/{member}", part(member))
        for name, text in texts.items():
            archive.writestr(f"model/{name}", text)


@contextmanager
def _parts(path: Path) -> Iterator[Callable[[str], bytes]]:
    """The parts of the archive, by name. Raises: UnsupportedFormat, also for what goes wrong with their content."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > path.stat().st_size:  # torch compresses nothing
                raise _unlike(path)
            names = {info.filename.partition("/")[2]: info for info in infos}
            if any(name.startswith(COMPILED) for name in names):
                raise _refused(path, "holds compiled code", "write the program itself, with torch.export.save")
            yield lambda name: archive.read(names[name])
    except (*DAMAGED, *MISFORMED) as error:
        raise _unlike(path) from error


def _program(path: Path, part: Callable[[str], bytes]) -> dict[str, Any]:
    """The program's document, of known words only."""
    document = json.loads(part(MODEL))
    module = document["graph_module"]
    (root,) = [entry for entry in module["module_call_graph"] if entry["fqn"] == ""]
    kept = {
        "graph_module": {key: module[key] for key in ("graph", "signature")} | {"module_call_graph": [root]},
        **{key: document[key] for key in ("opset_version", "range_constraints", "schema_version", "verifiers")},
    }
    cleaned: dict[str, Any] = _clean(path, kept)
    cleaned["graph_module"]["metadata"] = {}
    return {**cleaned, "torch_version": "", "guards_code": []}


def _payload(path: Path, part: Callable[[str], bytes], name: str) -> dict[str, Any]:
    """Which part of the archive holds which weight, all of them plain bytes."""
    config: dict[str, Any] = _clean(path, json.loads(part(name)))
    pickled = [key for key, entry in config["config"].items() if entry["use_pickle"] is not False]
    if pickled:
        raise _refused(path, f"{pickled[0]!r} is pickled", "export the model with plain tensors as weights")
    return config


def _clean(path: Path, value: Any, key: str = "") -> Any:
    """The same without metadata. Raises: UnsupportedFormat for a word that is not of the form that its key asks for."""
    if isinstance(value, dict):
        return {_word(path, k): {} if k == "metadata" else _clean(path, v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(path, each, key) for each in value]
    if not isinstance(value, str) or key in ("as_string", "as_strings"):  # torch quotes these in code that it makes
        return value
    if key in ("in_spec", "out_spec"):
        protocol, tree = json.loads(value)
        return json.dumps([protocol, _tree(path, tree)])
    if key in ("target", "as_operator") and not OPERATOR.fullmatch(value):
        raise _refused(path, f"runs {_line(value)}", "give a model of ATen's operators, or export it to ONNX yourself")
    return _word(path, value, FORMS.get(key, WORD))


def _word(path: Path, value: str, form: re.Pattern[str] = WORD) -> str:
    if not form.fullmatch(value):
        raise _refused(path, f"has {_line(value)} for a name or a size", "write it again with torch.export.save")
    return value


def _tree(path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """How inputs or outputs are nested, in types that torch makes without an import. Raises: UnsupportedFormat."""
    kind, context = tree["type"], json.loads(tree["context"] or "null")
    plain = context is None if kind in SEQUENCES or kind is None else isinstance(context, list) and kind in MAPPINGS
    if not plain:
        raise UnsupportedFormat(f"{path}: takes or gives a {_line(kind)}", "export it with tensors, tuples and dicts")
    kept = None if kind is None else json.dumps(None if context is None else [_word(path, key) for key in context])
    return {"type": kind, "context": kept, "children_spec": [_tree(path, child) for child in tree["children_spec"]]}


def _leaves(tree: dict[str, Any], name: str = "") -> Iterator[str]:
    """The names of the tensors in what a model returns."""
    if tree["type"] is None:
        yield name or "output"
        return
    keyed = tree["type"] in MAPPINGS
    keys = json.loads(tree["context"]) if keyed else range(len(tree["children_spec"]))
    for key, child in zip(keys, tree["children_spec"], strict=True):
        yield from _leaves(child, f"{name}_{key}" if name else key if keyed else f"output_{key}")


def _refuse_training(path: Path, graph: dict[str, Any]) -> None:
    for node in graph["nodes"]:
        if any(each["name"] in ("train", "training") and each["arg"].get("as_bool") for each in node["inputs"]):
            raise UnsupportedFormat(
                f"{path}: {node['target']} is in training mode", "call model.eval() before torch.export.export"
            )


def _given(spec: dict[str, Any]) -> bool:
    """Whether an input comes from the caller; the others are the program's own weights and constants."""
    return not spec.keys() & {"parameter", "buffer", "tensor_constant"}


def _tensor(path: Path, spec: dict[str, Any], kind: str) -> str:
    """The name in the graph of an input or output. Raises: UnsupportedFormat for what is not a plain tensor."""
    if "buffer_mutation" in spec:
        raise UnsupportedFormat(
            f"{path}: changes its own {spec['buffer_mutation']['buffer_name']} when it runs",
            "call model.eval() before torch.export.export",
        )
    if kind not in spec or "as_tensor" not in spec[kind]["arg"]:
        raise UnsupportedFormat(f"{path}: takes or gives something other than tensors", "export it with tensors only")
    name: str = spec[kind]["arg"]["as_tensor"]["name"]
    return name


def _spec(path: Path, graph: dict[str, Any], tensor: str, name: str) -> TensorSpec:
    value = graph["tensor_values"][tensor]
    dtype = DTYPES.get(value["dtype"])
    if dtype is None:
        raise UnsupportedFormat(f"{path}: {name} is of a type that edgekit does not serve", "export it with float32")
    if value["device"]["type"] != "cpu":
        raise UnsupportedFormat(f"{path}: was exported on {value['device']['type']}", "export it on the CPU")
    return TensorSpec(name, dtype, tuple(size.get("as_int") for size in value["sizes"]))


def _line(value: Any) -> str:
    return repr(value)[:80]


def _refused(path: Path, trouble: str, hint: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"{path}: {trouble}, which may do more than compute; it was not loaded", hint)


def _unlike(path: Path) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{path}: not a program of PyTorch 2.9 or newer, or cut short", "write it again with torch.export.save"
    )
