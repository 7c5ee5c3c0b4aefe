"""TensorSpec: what an input or an output of a model looks like, and whether an array fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit_runtime.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np

DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor by the name, dtype (numpy's word) and shape of the source model; None is a free dimension.

    ``tensor`` is its name inside the artifact, where a converter has changed it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    tensor: str = ""

    @property
    def inner(self) -> str:
        return self.tensor or self.name

    def __str__(self) -> str:
        sizes = ", ".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} [{sizes}]"

    def check(self, array: np.ndarray[Any, Any]) -> None:
        """Raises: InvalidInput when the array has another dtype or a shape that does not fit."""
        if array.dtype.name != self.dtype:
            raise InvalidInput(
                f"input {self}: got dtype {array.dtype.name}", f"convert it with .astype('{self.dtype}')"
            )
        if not fits(self.shape, array.shape):
            hint = "add the batch dimension: x[numpy.newaxis]" if fits(self.shape[1:], array.shape) else None
            raise InvalidInput(f"input {self}: got shape {list(array.shape)}", hint)

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "tensor": self.tensor}

    @staticmethod
    def of(document: dict[str, Any]) -> TensorSpec:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        if document["dtype"] not in DTYPES:
            raise ValueError(f"dtype {document['dtype']!r}")
        return TensorSpec(**{**document, "shape": tuple(document["shape"])})


def fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether a shape has the wanted sizes, None standing for any."""
    return len(wanted) == len(shape) and all(want in (None, have) for want, have in zip(wanted, shape))
