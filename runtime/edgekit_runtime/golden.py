"""Golden vectors: inputs with the outputs that belong to them, as they travel in a bundle (an .npz, never pickled)."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Vector:
    """``inputs`` as a user gives them, and outputs: ``expected``, this artifact's on the host; ``reference``, float."""

    inputs: dict[str, Array]
    expected: dict[str, Array]
    reference: dict[str, Array]


def dump(vectors: list[Vector]) -> bytes:
    """An .npz of the vectors, the same bytes for the same vectors; names stand in ``names`` as JSON."""
    names = [[list(part) for part in _parts(vector)] for vector in vectors]
    arrays: dict[str, Any] = {
        f"{v}.{p}.{i}": array
        for v, vector in enumerate(vectors)
        for p, part in enumerate(_parts(vector))
        for i, array in enumerate(part.values())
    }
    file = io.BytesIO()
    np.savez_compressed(file, names=np.frombuffer(json.dumps(names).encode(), np.uint8), **arrays)
    return file.getvalue()


def parse(data: bytes) -> list[Vector]:
    """Raises: BundleError. ``parse(dump(vectors))`` gives the vectors."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            names = json.loads(file["names"].tobytes())
            parts = [
                [{name: file[f"{v}.{p}.{i}"] for i, name in enumerate(part)} for p, part in enumerate(vector)]
                for v, vector in enumerate(names)
            ]
        return [Vector(*part) for part in parts]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BundleError(f"the golden vectors cannot be read: {error}") from error


def _parts(vector: Vector) -> tuple[dict[str, Array], ...]:
    return vector.inputs, vector.expected, vector.reference
