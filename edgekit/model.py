"""Model: a trained model in a file, of a known format, with the tensors it takes and gives."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from edgekit.errors import ConversionError, UnsupportedFormat
from edgekit_postprocess import Postprocess
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.features import Features
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec


class Format(Enum):
    """How a model is written down; the value is its word in TOML and JSON."""

    KERAS = "keras"
    ONNX = "onnx"
    SAVED_MODEL = "savedmodel"
    TFLITE = "tflite"
    TORCH = "torch"
    TORCH_MODULE = "torch-module"


@dataclass(frozen=True)
class Tail:
    """The end of a model that was cut off: ``postprocess`` makes ``outputs``, which are the source's, of those of the
    file. ``agreement`` by output name, where the cut operator tells what it gives.
    """

    outputs: tuple[TensorSpec, ...]
    postprocess: Postprocess
    agreement: dict[str, Agreement] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "outputs": [spec.as_dict() for spec in self.outputs],
            "postprocess": self.postprocess.as_dict(),
            "agreement": {name: how.as_dict() for name, how in self.agreement.items()},
        }

    @staticmethod
    def of(document: dict[str, Any]) -> Tail:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        outputs = tuple(map(TensorSpec.of, document["outputs"]))
        agreement = {name: Agreement.of(how) for name, how in document["agreement"].items()}
        return Tail(outputs, Postprocess.of(document["postprocess"]), agreement)


@dataclass(frozen=True)
class Model:
    """A model file. ``lineage`` names the passes it came through; specs are empty where only a framework can tell.

    The specs carry the names of the *source* model; ``TensorSpec.tensor`` is the name inside this file. A TORCH_MODULE
    is a file of weights and the ``factory``, ``package.module:function``, of the module that they belong to. What was
    cut off its end is its ``tail``; ``outputs`` are those of the file, but for its ``features``. Its head is its last
    ``head_layers`` dense layers: those that were merged into it, or the last one. ``trains``: whether it has training
    signatures beside what it serves, whose weights are variables: they stay float32.
    """

    path: Path
    format: Format
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str
    quantized: bool = False
    lineage: tuple[str, ...] = ()
    factory: str = ""
    tail: Tail | None = None
    features: Features | None = None
    head_layers: int = 1
    trains: bool = False

    def interface(self, preprocess: dict[str, Preprocess], agreement: dict[str, Agreement]) -> Interface:
        """What it takes and gives where it serves, with its tail."""
        if self.tail is None:
            return Interface(self.inputs, self.outputs, preprocess, agreement, features=self.features)
        rest = replace(self.tail.postprocess, takes=self.outputs)
        agreement = {**self.tail.agreement, **agreement}
        return Interface(self.inputs, self.tail.outputs, preprocess, agreement, rest, self.features)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


READERS = {
    Format.KERAS: "edgekit.formats.keras_file:read",
    Format.ONNX: "edgekit.formats.onnx_file:read",
    Format.SAVED_MODEL: "edgekit.formats.savedmodel_file:read",
    Format.TFLITE: "edgekit.formats.tflite_file:read",
    Format.TORCH: "edgekit.formats.torch_file:read",
}

SUFFIXES = {
    ".h5": Format.KERAS,
    ".keras": Format.KERAS,
    ".onnx": Format.ONNX,
    ".pt2": Format.TORCH,
    ".tflite": Format.TFLITE,
}
PICKLED = frozenset({".pt", ".pth"})
FACTORY = re.compile(r"[\w.]+:\w+")


def open_model(path: Path, weights: Path | None = None) -> Model:
    """The model in a file, in the folder of a SavedModel, or of ``package.module:factory`` and a file of weights.

    Raises: UnsupportedFormat for what is missing, damaged, unsafe or of no known format.
    """
    if weights is not None or (FACTORY.fullmatch(str(path)) and not path.exists()):
        return cast("Model", import_module("edgekit.formats.torch_file").read_factory(str(path), weights))
    if (path / "saved_model.pb").is_file():
        return _read(path, Format.SAVED_MODEL)
    if not path.is_file():
        raise UnsupportedFormat(
            f"{path}: no such model file",
            "give the path of a .onnx, .tflite, .keras, .h5 or .pt2 file, or of a SavedModel's folder",
        )
    if path.suffix.lower() in PICKLED:
        hint = "export it with torch.export as .pt2, or give edgekit build package.module:factory --weights STATE_DICT"
        raise UnsupportedFormat(f"{path}: a pickle may run code when it is loaded; it was not loaded", hint)
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise UnsupportedFormat(
            f"{path}: not a model format that edgekit reads", f"known: {', '.join(SUFFIXES)}, and a SavedModel's folder"
        )
    return _read(path, form)


def _read(path: Path, form: Format) -> Model:
    module, _, name = READERS[form].partition(":")
    return cast("Callable[[Path], Model]", getattr(import_module(module), name))(path)


def derived(source: Model, path: Path, step: str, *, names_of: Model | None = None) -> Model:
    """The model that a pass has written, with the tensor names that people know it by.

    Names follow position: a pass keeps the order of inputs and outputs. Raises: ConversionError.
    """
    known = names_of or source
    try:
        written = open_model(path)
    except UnsupportedFormat as error:
        raise ConversionError(f"{step}: {error.message}", error.hint) from error
    return replace(
        written,
        inputs=_renamed(written.inputs, known.inputs),
        outputs=_renamed(written.outputs, known.outputs),
        lineage=(*source.lineage, step),
        tail=source.tail,
        head_layers=source.head_layers,
    )


def _renamed(written: tuple[TensorSpec, ...], known: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    if len(written) != len(known):
        return written
    return tuple(replace(old, dtype=new.dtype, tensor=new.inner) for new, old in zip(written, known, strict=True))


def digest_of(path: Path) -> str:
    """The ``sha256:…`` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
