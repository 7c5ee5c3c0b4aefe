"""Dataset: calibration or evaluation samples, streamed one by one, each checked against what the model takes.

A source is written as a path to an .npz (one array per input name, or ``x`` for a single input, and ``labels``), a
path to a folder of images (``labels.csv`` with file,label[,split], or a subfolder a class), or
``package.module:function`` yielding a sample, or a pair of a sample and its label.
"""

from __future__ import annotations

import csv
import hashlib
import operator
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgekit.data import npz
from edgekit.errors import ConfigError, DataError, EdgekitError, InvalidInput
from edgekit.model import digest_of
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import fits

Array = NDArray[Any]
Raw = tuple[dict[str, Array], int | None]

KEPT_BYTES = 1 << 28
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

    def at(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """The samples of these numbers, which rise. Raises: DataError."""
        wanted = iter([*numbers, None])
        goal = next(wanted)
        for number, (arrays, label) in enumerate(self.source.raw(self.role)):
            if goal is None:
                return
            if number == goal:
                yield Sample(self._inputs(number, arrays), label)
                goal = next(wanted)

    def _inputs(self, number: int, arrays: dict[str, Array]) -> dict[str, Array]:
        accepts = self.interface.accepts
        if len(accepts) == 1 and list(arrays) in ([""], ["x"]):
            arrays = dict(zip(accepts, arrays.values(), strict=True))
        if "" in arrays:
            raise DataError(f"{self.name}: one array a sample, the model has inputs {', '.join(accepts)}", "name them")
        inputs = {name: self._batched(name, array) for name, array in arrays.items()}
        try:
            feeds = self.interface.feeds(inputs)
        except InvalidInput as error:
            hint = error.hint or "give samples as the model takes them, without the batch axis"
            raise DataError(f"{self.name}: sample {number}: {error.message}", hint) from error
        self._check(number, feeds)
        for name, array in inputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataError(f"{self.name}: sample {number}: input {name!r} has NaN or infinite values", "clean it")
        return inputs

    def _check(self, number: int, feeds: dict[str, Array]) -> None:
        for spec in self.interface.inputs:
            if not fits(spec.shape, feeds[spec.inner].shape):
                shape = list(feeds[spec.inner].shape)
                raise DataError(
                    f"{self.name}: sample {number}: input {spec}: preprocessing made it {shape}",
                    f"correct resize or crop under [preprocess.{spec.name}]",
                )

    def _batched(self, name: str, array: Array) -> Array:
        spec = self.interface.accepts.get(name)
        return array[np.newaxis] if spec and array.ndim == len(spec.shape) - 1 else array


@dataclass(frozen=True)
class NpzSource:
    """Arrays whose first axis counts the samples."""

    path: Path
    digest: str

    def raw(self, role: str) -> Iterator[Raw]:
        found = npz.headers(self.path)
        labels = found.get("labels")
        if labels is not None and (len(labels.shape) != 1 or labels.dtype.kind not in "iu"):
            raise DataError(
                f"{self.path}: labels are {labels.dtype.name} {list(labels.shape)}",
                "write one integer a sample, the number of its class",
            )
        if found.keys() <= {"labels"}:
            return
        if len({header.rows for header in found.values()}) > 1:
            raise DataError(f"{self.path}: its arrays have different numbers of samples", "one row a sample in each")
        for row in npz.rows(self.path):
            label = row.pop("labels", None)
            yield row, None if label is None else int(label)


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
    """A generator function of the user's own, by its ``package.module:function``."""

    function: Any
    digest: str

    def raw(self, role: str) -> Iterator[Raw]:
        """Raises: DataError, also for whatever the function raises: its errors are the user's, of any kind."""
        try:
            for number, item in enumerate(self.function()):
                yield self._raw(number, item)
        except EdgekitError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{self.digest}: {_told(error)}", "it must yield samples, or (sample, label) pairs"
            ) from error

    def _raw(self, number: int, item: Any) -> Raw:
        sample, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        arrays = sample if isinstance(sample, dict) else {"": sample}
        try:
            return {n: np.asarray(a) for n, a in arrays.items()}, None if label is None else operator.index(label)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.digest}: sample {number}: {error}", "yield arrays, or pairs of them and an integer label"
            ) from error


@dataclass
class Kept:
    """A source whose samples stay in memory once they were read, where they are no more than ``KEPT_BYTES``: images are
    decoded once, however often a build walks through them.
    """

    source: Source
    kept: dict[str, list[Raw]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.source.digest

    def raw(self, role: str) -> Iterator[Raw]:
        if role in self.kept:
            yield from self.kept[role]
            return
        read, size = list[Raw](), 0
        for sample in self.source.raw(role):
            size += sum(array.nbytes for array in sample[0].values())
            if size <= KEPT_BYTES:
                read.append(sample)
            else:
                read.clear()
            yield sample
        if size <= KEPT_BYTES:
            self.kept[role] = read


def open_dataset(source: str, role: str, interface: Interface, base: Path) -> Dataset:
    """The dataset that a source describes; paths count from ``base``. Raises: DataError, ConfigError."""
    return Dataset(source, role, open_source(source, role, base), interface)


def open_source(source: str, role: str, base: Path) -> Source:
    """What a source describes, not yet read. Raises: DataError, ConfigError."""
    path = base / source
    if path.suffix == ".npz" and path.is_file():
        return NpzSource(path, digest_of(path))
    if path.is_dir():
        return FolderSource(path, _digest_of_folder(path))
    if ":" in source and "/" not in source:
        return FunctionSource(_function(source, base), source)
    trouble = f"not {role} data that edgekit reads" if path.exists() else f"no such {role} data"
    raise DataError(f"{source}: {trouble}", "give an .npz file, a folder of images, or package.module:function")


def _listed(listed: Path, role: str) -> Iterator[tuple[str, int | None]]:
    try:
        with listed.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{listed}: cannot be read: {error}", "write it as CSV, in UTF-8") from error
    for number, row in enumerate(rows, 1):
        try:
            if row.get("split") in (None, "", *SPLITS[role]):
                yield row["file"], int(row["label"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{listed}: row {number} has no file or no integer label", "its columns: file,label[,split]"
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
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}", "remove it or save it again") from error


def _function(source: str, base: Path) -> Any:
    """The function, whose module may lie in ``base``. Raises: ConfigError for whatever its import raises."""
    module, _, name = source.partition(":")
    if str(base) not in sys.path:
        sys.path.append(str(base))  # last: a file of the user's must not hide a module that is imported later
    try:
        function = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{source}: {error}", "its folder must be the current one, or be on PYTHONPATH") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{source}: cannot be imported: {_told(error)}", "name a function of a module") from error
    if not callable(function):
        raise ConfigError(f"{source}: {name} is no function", "name one that yields samples")
    return function


def _told(error: BaseException) -> str:
    """An error of the user's code in one line, with its place there."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    ours = place.filename == __file__ or place.filename.startswith("<frozen")
    where = "" if ours else f" ({place.filename}:{place.lineno})"
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def _digest_of_folder(folder: Path) -> str:
    """A digest of the names and the contents of a folder's files."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder)}:{digest_of(path)}\n".encode())
    return f"sha256:{whole.hexdigest()}"
