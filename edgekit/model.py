"""Model: a trained model in a file, of a known format, with the tensors it takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import cast

from edgekit.errors import UnsupportedFormat
from edgekit_runtime.tensors import TensorSpec


class Format(Enum):
    """How a model is written down; the value is its word in TOML and JSON."""

    KERAS = "keras"
    ONNX = "onnx"
    TFLITE = "tflite"


@dataclass(frozen=True)
class Model:
    """A model file. ``lineage`` names the passes it came through; specs are empty where only a framework can tell.

    The specs carry the names of the *source* model; ``TensorSpec.tensor`` is the name inside this file.
    """

    path: Path
    format: Format
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str
    quantized: bool = False
    lineage: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


READERS = {
    Format.KERAS: "edgekit.keras_file:read",
    Format.ONNX: "edgekit.onnx_file:read",
    Format.TFLITE: "edgekit.tflite_file:read",
}

SUFFIXES = {".h5": Format.KERAS, ".keras": Format.KERAS, ".onnx": Format.ONNX, ".tflite": Format.TFLITE}


def open_model(path: Path) -> Model:
    """The model in a file. Raises: UnsupportedFormat for what is missing, damaged, unsafe or of no known format."""
    if not path.is_file():
        raise UnsupportedFormat(f"{path}: no such model file", "give the path of a .onnx, .tflite, .keras or .h5 file")
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise UnsupportedFormat(f"{path}: not a model format that edgekit reads", f"known: {', '.join(SUFFIXES)}")
    module, _, name = READERS[form].partition(":")
    return cast("Callable[[Path], Model]", getattr(import_module(module), name))(path)


def derived(source: Model, path: Path, step: str, *, names_of: Model | None = None) -> Model:
    """The model that a pass has written, with the tensor names that people know it by.

    Names follow position: a pass keeps the order of inputs and outputs. Raises: UnsupportedFormat.
    """
    written, known = open_model(path), names_of or source
    return replace(
        written,
        inputs=_renamed(written.inputs, known.inputs),
        outputs=_renamed(written.outputs, known.outputs),
        lineage=(*source.lineage, step),
    )


def _renamed(written: tuple[TensorSpec, ...], known: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    if len(written) != len(known):
        return written
    return tuple(replace(old, tensor=new.inner) for new, old in zip(written, known, strict=True))


def digest_of(path: Path) -> str:
    """The ``sha256:…`` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
