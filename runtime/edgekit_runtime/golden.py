"""Golden vectors: inputs with the outputs that belong to them, as they travel in a bundle (an .npz, never pickled)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import arrays, fields
from edgekit_runtime import bundle as bundles
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Bundle

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
    members: dict[str, Any] = {
        f"{v}.{p}.{i}": array
        for v, vector in enumerate(vectors)
        for p, part in enumerate(_parts(vector))
        for i, array in enumerate(part.values())
    }
    return arrays.dump({"names": np.frombuffer(json.dumps(names).encode(), np.uint8), **members})


def of_bundle(bundle: Bundle) -> list[Vector]:
    """A bundle's. Raises: BundleError."""
    return parse(bundle.read(bundle.layer(bundles.GOLDEN_TYPE)))


def parse(data: bytes) -> list[Vector]:
    """Raises: BundleError. ``parse(dump(vectors))`` gives the vectors."""
    try:
        file = arrays.load(data)
        names = fields.items(json.loads(file["names"].tobytes()))
        return [_vector(file, v, fields.items(parts)) for v, parts in enumerate(names)]
    except (ValueError, KeyError, RecursionError) as error:
        raise BundleError(f"the golden vectors cannot be read: {error}") from error


def _vector(file: dict[str, Array], v: int, parts: list[Any]) -> Vector:
    inputs, expected, reference = (
        {fields.text(name): file[f"{v}.{p}.{i}"] for i, name in enumerate(fields.items(part))}
        for p, part in enumerate(parts)
    )
    return Vector(inputs, expected, reference)


def _parts(vector: Vector) -> tuple[dict[str, Array], ...]:
    return vector.inputs, vector.expected, vector.reference
