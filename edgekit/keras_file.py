"""Reading Keras files (``.keras`` and legacy ``.h5``) far enough to refuse what would run code when loaded.

Both formats name Python objects to be made: a Lambda layer holds marshalled bytecode, and a class may come from any
module (CVE-2024-3660, CVE-2025-1550). So the configuration is read here as plain JSON, before any framework sees it;
the model itself is loaded by a child process only.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.errors import ExtraNotInstalled, UnsupportedFormat
from edgekit.model import Format, Model, digest_of

HDF5 = b"\x89HDF\r\n\x1a\n"
FORBIDDEN = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper"})
TRUSTED = ("keras", "tensorflow.keras", "tf_keras", "builtins")
CONFIG_BYTES = 64 << 20


def read(path: Path) -> Model:
    """Raises: UnsupportedFormat, ExtraNotInstalled (an .h5 needs h5py)."""
    config = _h5_config(path) if _starts_with(path, HDF5) else _archive_config(path)
    for entry in _objects(config):
        _refuse_code(path, entry)
    return Model(path, Format.KERAS, (), (), digest_of(path))


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _archive_config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            return json.loads(file.read(CONFIG_BYTES))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError) as error:
        raise UnsupportedFormat(
            f"{path}: not a Keras model, or cut short", "save it again with model.save()"
        ) from error


def _h5_config(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ExtraNotInstalled(
            f"{path}: Keras models need TensorFlow", "pip install 'edgekit-sdk[tensorflow]'"
        ) from error
    try:
        with h5py.File(path) as file:
            return json.loads(file.attrs["model_config"])
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise UnsupportedFormat(
            f"{path}: no Keras model in this HDF5 file", "save the whole model, not its weights only"
        ) from error


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every object of the configuration, at any depth."""
    if isinstance(config, dict):
        yield config
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _objects(part)


def _refuse_code(path: Path, entry: dict[str, Any]) -> None:
    name = entry.get("class_name")
    layer = entry.get("config")
    known_as = layer.get("name", name) if isinstance(layer, dict) else name
    if name in FORBIDDEN or name == "__lambda__":
        raise UnsupportedFormat(
            f"{path}: layer {known_as!r} is a {name} layer, which holds code; it was not loaded",
            "replace it by a layer of Keras, or export the model to ONNX yourself",
        )
    module = entry.get("module")
    if isinstance(name, str) and isinstance(module, str) and not module.startswith(TRUSTED):
        raise UnsupportedFormat(
            f"{path}: {known_as!r} is made by {module}.{name}, which is not a part of Keras; it was not loaded",
            "export the model to ONNX yourself",
        )
