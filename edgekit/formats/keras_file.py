"""Reading Keras files (``.keras`` and legacy ``.h5``) far enough to refuse what would run code when loaded.

Both formats name Python objects to be made: a Lambda layer holds marshalled bytecode, a class may come from any module
(CVE-2024-3660, CVE-2025-1550), and Keras 2 has layers that call any function of TensorFlow, which can write files and
load libraries. So the configuration is read here as plain JSON, before any framework sees it; the model itself is
loaded by a child process only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekit.errors import ExtraNotInstalled, UnsupportedFormat
from edgekit.model import Format, Model, digest_of

FORBIDDEN = frozenset(
    {
        "ClassMethod",
        "DropoutWrapper",
        "FlaxLayer",
        "InstanceMethod",
        "InstanceProperty",
        "JaxLayer",
        "Lambda",
        "ResidualWrapper",
        "TFSMLayer",
        "TensorFlowOpLayer",
        "TorchModuleWrapper",
        "__lambda__",
    }
)
TRUSTED = re.compile(r"(keras|tensorflow\.keras|tf_keras|builtins)(\..*)?")
CALLS = frozenset({"TFOpLambda", "SlicingOpLambda"})
"""Layers of Keras 2 that call the function of TensorFlow that their configuration names."""
PURE = re.compile(
    r"(__operators__|bitwise|image|linalg|math|nn|signal)\.\w+|broadcast_to|cast|clip_by_value|concat|convert_to_tensor|"
    r"expand_dims|eye|fill|gather|identity|one_hot|ones|ones_like|pad|range|repeat|reshape|reverse|roll|shape|slice|"
    r"split|squeeze|stack|strided_slice|tile|transpose|unstack|where|zeros|zeros_like"
)
"""The functions of TensorFlow that only compute."""
READ = """
import sys, h5py
config = h5py.File(sys.argv[1]).attrs["model_config"]
sys.stdout.buffer.write(config if isinstance(config, bytes) else config.encode())
"""
DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError)
"""What zipfile raises for an archive that is not whole; a RecursionError of json's is a RuntimeError."""
CONFIG_BYTES = 64 << 20


def read(path: Path) -> Model:
    """Raises: UnsupportedFormat, ExtraNotInstalled (an .h5 needs h5py)."""
    # Keras goes by the suffix as well: a file may be both, a zip behind an HDF5, with another model in each.
    config = _archive_config(path) if path.suffix.lower() == ".keras" else _h5_config(path)
    for entry in _objects(config):
        _refuse_code(path, entry)
    return Model(path, Format.KERAS, (), (), digest_of(path))


def _archive_config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            config = json.loads(file.read(CONFIG_BYTES))
    except (*DAMAGED, KeyError, ValueError) as error:
        raise UnsupportedFormat(
            f"{path}: not a Keras model, or cut short", "save it again with model.save()"
        ) from error
    # Losses and metrics of one's own are not loaded (compile=False), so they are no reason to refuse.
    return {**config, "compile_config": None} if isinstance(config, dict) else config


def _h5_config(path: Path) -> Any:
    if find_spec("h5py") is None:
        raise ExtraNotInstalled(f"{path}: Keras models need TensorFlow", "pip install 'edgekit-sdk[tensorflow]'")
    # In a process of its own: a few changed bytes are enough for the HDF5 library to crash the one that it runs in.
    done = subprocess.run([sys.executable, "-P", "-c", READ, path], capture_output=True, check=False)
    try:
        return json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise UnsupportedFormat(
            f"{path}: no Keras model in it, or cut short", "save the whole model, not its weights only"
        ) from error


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every object of the configuration, at any depth."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        if isinstance(part, list):
            waiting += part


def _refuse_code(path: Path, entry: dict[str, Any]) -> None:
    name, module = entry.get("class_name"), entry.get("module")
    layer = entry["config"] if isinstance(entry.get("config"), dict) else {}
    known_as = layer.get("name", name)
    # "Custom>Lambda" is a registered name. None of ours loads one, but it is no name for something harmless.
    if {re.split(r"[>.]", str(entry.get(key)))[-1] for key in ("class_name", "registered_name")} & FORBIDDEN:
        raise UnsupportedFormat(
            f"{path}: layer {known_as!r} is a {name} layer, which holds code; it was not loaded",
            "replace it by a layer of Keras, or export the model to ONNX yourself",
        )
    function = layer.get("function")
    if name in CALLS and not (isinstance(function, str) and PURE.fullmatch(function)):
        raise UnsupportedFormat(
            f"{path}: layer {known_as!r} calls tf.{function}, which may do more than compute; it was not loaded",
            "replace it by a layer of Keras, or export the model to ONNX yourself",
        )
    if isinstance(name, str) and isinstance(module, str) and not TRUSTED.fullmatch(module):
        raise UnsupportedFormat(
            f"{path}: {known_as!r} is made by {module}.{name}, which is not a part of Keras; it was not loaded",
            "export the model to ONNX yourself",
        )
