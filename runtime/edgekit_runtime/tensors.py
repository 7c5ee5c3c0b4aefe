"""TensorSpec: what an input or an output of a model looks like, and whether an array fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields
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
        return f"{self.name}: {self.dtype} {self._sizes()}"

    def _sizes(self) -> str:
        return f"[{', '.join('N' if size is None else str(size) for size in self.shape)}]"

    @cached_property
    def _native(self) -> np.dtype[Any]:
        """In the processor's order of bytes, in which engines take numbers."""
        import numpy as np

        return np.dtype(self.dtype)

    def check(self, array: np.ndarray[Any, Any]) -> None:
        """Raises: InvalidInput when the array has another dtype or a shape that does not fit."""
        if array.dtype is not self._native and array.dtype != self._native:
            raise InvalidInput(f"input {self}: got dtype {array.dtype}", f"convert it with .astype('{self.dtype}')")
        if not fits(self.shape, array.shape):
            raise InvalidInput(f"input {self}: got shape {list(array.shape)}", self._way_to_fit(array.shape))

    def _way_to_fit(self, shape: tuple[int, ...]) -> str:
        if fits(self.shape[1:], shape):
            return "add the batch dimension: x[numpy.newaxis]"
        if len(shape) == len(self.shape) <= 5:
            for axes in permutations(range(len(shape))):
                if fits(self.shape, tuple(shape[axis] for axis in axes)):
                    return f"reorder its axes: x.transpose{axes}"
        return f"bring it to {self._sizes()}"

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "tensor": self.tensor}

    @staticmethod
    def of(document: dict[str, Any]) -> TensorSpec:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        if document["dtype"] not in DTYPES:
            raise ValueError(f"dtype {document['dtype']!r}")
        sizes = (None if size is None else fields.count(size) for size in fields.items(document["shape"]))
        texts = {key: fields.text(document[key]) for key in ("name", "dtype", "tensor")}
        return TensorSpec(**{**document, **texts, "shape": tuple(sizes)})


def fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether a shape has the wanted sizes, None standing for any but 0 (which LiteRT's heap does not survive)."""
    if len(wanted) != len(shape):
        return False
    for want, have in zip(wanted, shape):  # noqa: SIM110 — in every call, and half of the time
        if want != have and (want is not None or have <= 0):
            return False
    return True
