"""Dataset: calibration or evaluation samples, streamed one by one, each checked against what the model takes.

A source is written as a path to an .npz (one array per input name, or ``x`` for a single input, and ``labels``), a
path to a folder of images (``labels.csv`` with file,label[,split], or a subfolder a class), or
``package.module:function`` yielding a sample, or a pair of a sample and its label.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgekit.errors import ConfigError, DataError, InvalidInput
from edgekit.model import digest_of
from edgekit_runtime.interface import Interface

Array = NDArray[Any]
Raw = tuple[dict[str, Array], int | None]

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
SPLITS = {
    "calibration": frozenset({"calib", "calibration", "train", "training"}),
    "evaluation": frozenset({"eval", "evaluation", "test", "val", "validation"}),
}


@dataclass(frozen=True)
class Sample:
    """Inputs as ``Session.predict`` takes them, and the class they belong to, where that is known."""

    inputs: dict[str, Array]
    label: int | None = None


class Source(Protocol):
    """Where raw samples come from: arrays by input name ("" for the only one), no batch axis."""

    @property
    def digest(self) -> str: ...

    def raw(self, role: str) -> Iterator[Raw]: ...


@dataclass(frozen=True)
class Dataset:
    """Samples of one role, "calibration" or "evaluation"; iterating it reads the source anew."""

    name: str
    role: str
    source: Source
    interface: Interface

    def __iter__(self) -> Iterator[Sample]:
        """Raises: DataError for a sample that the model cannot take, and when there is none."""
        number = -1
        for number, (arrays, label) in enumerate(self.source.raw(self.role)):
            yield Sample(self._inputs(number, arrays), label)
        if number < 0:
            raise DataError(f"{self.name}: no {self.role} samples in it", "give at least a few dozen")

    def _inputs(self, number: int, arrays: dict[str, Array]) -> dict[str, Array]:
        accepts = self.interface.accepts
        if list(arrays) == [""] or (list(arrays) == ["x"] and len(accepts) == 1):
            arrays = dict.fromkeys(accepts, next(iter(arrays.values()))) if len(accepts) == 1 else arrays
        inputs = {name: self._batched(name, array) for name, array in arrays.items()}
        try:
            self.interface.feeds(inputs)
        except InvalidInput as error:
            raise DataError(f"{self.name}: sample {number}: {error.message}", error.hint) from error
        for name, array in inputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataError(f"{self.name}: sample {number}: input {name!r} has NaN or infinite values", "clean it")
        return inputs

    def _batched(self, name: str, array: Array) -> Array:
        spec = self.interface.accepts.get(name)
        return array[np.newaxis] if spec and array.ndim == len(spec.shape) - 1 else array


@dataclass(frozen=True)
class NpzSource:
    """Arrays whose first axis counts the samples."""

    path: Path
    digest: str

    def raw(self, role: str) -> Iterator[Raw]:
        arrays = self._arrays()
        labels = arrays.pop("labels", None)
        sizes = {name: len(array) for name, array in arrays.items() if array.ndim}
        if len(sizes) != len(arrays) or len({*sizes.values(), *([] if labels is None else [len(labels)])}) > 1:
            raise DataError(f"{self.path}: its arrays have different numbers of samples", "one row a sample in each")
        for index in range(min(sizes.values(), default=0)):
            yield {n: a[index] for n, a in arrays.items()}, None if labels is None else int(labels[index])

    def _arrays(self) -> dict[str, Array]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: cannot be read as .npz: {error}", "write it with numpy.savez") from error


@dataclass(frozen=True)
class FolderSource:
    """Images, as RGB of height × width × 3, uint8."""

    path: Path
    digest: str

    def raw(self, role: str) -> Iterator[Raw]:
        listed = self.path / "labels.csv"
        for file, label in _listed(listed, role) if listed.exists() else _found(self.path):
            yield {"": _image(self.path / file)}, label


@dataclass(frozen=True)
class FunctionSource:
    """A generator function of the user's own."""

    function: Any
    digest: str

    def raw(self, role: str) -> Iterator[Raw]:
        for item in self.function():
            sample, label = item if isinstance(item, tuple) else (item, None)
            yield (
                sample if isinstance(sample, dict) else {"": np.asarray(sample)},
                None if label is None else int(label),
            )


def open_dataset(source: str, role: str, interface: Interface, base: Path) -> Dataset:
    """The dataset that a source describes; paths count from ``base``. Raises: DataError, ConfigError."""
    path = base / source
    if path.suffix == ".npz" and path.is_file():
        return Dataset(source, role, NpzSource(path, digest_of(path)), interface)
    if path.is_dir():
        return Dataset(source, role, FolderSource(path, _digest_of_names(path)), interface)
    if ":" in source and "/" not in source:
        return Dataset(source, role, FunctionSource(_function(source), source), interface)
    raise DataError(
        f"{source}: no such {role} data", "give an .npz file, a folder of images, or package.module:function"
    )


def _listed(listed: Path, role: str) -> Iterator[tuple[str, int | None]]:
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        try:
            if row.get("split", "") in ("", *SPLITS[role]):
                yield row["file"], int(row["label"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{listed}: row {row} has no file or no integer label", "columns: file,label[,split]"
            ) from error


def _found(folder: Path) -> Iterator[tuple[str, int | None]]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    for file in files:
        yield str(file), classes.index(file.parts[0]) if len(file.parts) > 1 else None


def _image(path: Path) -> Array:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}", "remove it or save it again") from error


def _function(source: str) -> Any:
    module, _, name = source.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{source}: cannot be imported: {error}", "is its folder on PYTHONPATH?") from error


def _digest_of_names(folder: Path) -> str:
    """A digest of the names and sizes of a folder's files: enough to notice another data set."""
    names = sorted(f"{path.relative_to(folder)}:{path.stat().st_size}" for path in folder.rglob("*") if path.is_file())
    return f"sha256:{hashlib.sha256(chr(10).join(names).encode()).hexdigest()}"
