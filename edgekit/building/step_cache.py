"""Step cache: what the steps of earlier builds made, by a digest of all that went into them.

An entry is a folder that appears by a rename, with a digest of the file in it: one that is half-written, damaged or of
another edgekit is made anew. The oldest go when there is too much.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any

from edgekit import tools
from edgekit.model import Format, Model, Tail, digest_of
from edgekit_runtime.features import Features
from edgekit_runtime.manifest import canonical
from edgekit_runtime.tensors import TensorSpec

DOCUMENT = "entry.json"
LIMIT_BYTES = 4 << 30


@dataclass(frozen=True)
class StepCache:
    """Entries under ``folder``, of which nothing is kept when it is None."""

    folder: Path | None = None

    def model(self, parts: Mapping[str, object], work: Path, make: Callable[[], Model]) -> Model:
        """The model that ``make`` gives for ``parts``, copied into ``work`` where it was made before.

        What lies elsewhere was not made, but taken as it is, and is not kept.
        """
        if self.folder is None:
            return make()
        entry = self.folder / _key(parts)
        found = _read(entry, work)
        if found is None:
            found = make()
            if found.path.parent == work:
                self._keep(entry, found)
        return found

    def document(self, parts: Mapping[str, object], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The same for a JSON object."""
        if self.folder is None:
            return make()
        entry = self.folder / _key(parts)
        try:
            found = json.loads((entry / DOCUMENT).read_bytes())
            if _digest(found["document"]) == found["digest"]:
                return dict(found["document"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        made = make()
        self._store(entry, {"document": made, "digest": _digest(made)})
        return made

    def _keep(self, entry: Path, model: Model) -> None:
        self._store(entry, _document(model), model.path)

    def _store(self, entry: Path, document: object, file: Path | None = None) -> None:
        """A full or read-only disk costs the entry only."""
        with suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=entry.parent))
            try:
                if file:
                    copyfile(file, draft / file.name)
                (draft / DOCUMENT).write_bytes(canonical(document))
                rmtree(entry, ignore_errors=True)
                draft.rename(entry)
            finally:
                rmtree(draft, ignore_errors=True)
            _shrink(entry.parent)


def _key(parts: Mapping[str, object]) -> str:
    return _digest({"parts": dict(parts), "tools": tools.versions(), "code": _code()})


def _digest(document: object) -> str:
    return hashlib.sha256(canonical(document)).hexdigest()


@cache
def _code() -> str:
    """A digest of edgekit's own source: what it makes may change with any line of it."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def _document(model: Model) -> dict[str, Any]:
    return {
        "file": model.path.name,
        "format": model.format.value,
        "inputs": [spec.as_dict() for spec in model.inputs],
        "outputs": [spec.as_dict() for spec in model.outputs],
        "digest": digest_of(model.path),
        "quantized": model.quantized,
        "trains": model.trains,
        "lineage": list(model.lineage),
        "tail": model.tail and model.tail.as_dict(),
        "features": model.features and model.features.as_dict(),
        "head_layers": model.head_layers,
    }


def _read(entry: Path, work: Path) -> Model | None:
    """The model of an entry, when it is whole."""
    try:
        told = json.loads((entry / DOCUMENT).read_bytes())
        path = Path(copyfile(entry / told["file"], work / told["file"]))
        inputs, outputs = (tuple(map(TensorSpec.of, told[key])) for key in ("inputs", "outputs"))
        tail = Tail.of(told["tail"]) if told["tail"] else None
        model = Model(path, Format(told["format"]), inputs, outputs, told["digest"], tail=tail)
        features = Features.of(told["features"]) if told["features"] else None
        known = {key: told[key] for key in ("quantized", "trains", "head_layers")}
        os.utime(entry)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if digest_of(path) != model.digest:
        return None
    return replace(model, **known, lineage=tuple(told["lineage"]), features=features)


def _shrink(folder: Path) -> None:
    """Take away what was not used for longest, until the rest is within LIMIT_BYTES."""
    entries = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in entries}
    excess = sum(sizes.values()) - LIMIT_BYTES
    for path in entries:
        if excess <= 0:
            return
        excess -= sizes[path]
        rmtree(path, ignore_errors=True)
