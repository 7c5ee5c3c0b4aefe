"""Preprocess: how a raw input becomes what the model takes; the same code in calibration, evaluation and on the device.

Raw images are height × width × colour (RGB), alone or stacked along a first batch axis. The order is fixed:
resize (bilinear, half-pixel centres, no antialiasing, as OpenCV's INTER_LINEAR) → centre crop → colour order →
``(x * scale - mean) / std`` → layout → the model's dtype.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BLOCK_BYTES = 1 << 17
"""Images are resized in blocks of rows: these stay in the cache, and malloc need not ask the system for each."""


@dataclass(frozen=True)
class Preprocess:
    """``resize``: () none, (short side,) keeping the aspect, or (height, width); ``crop``: () or (height, width).

    ``mean`` and ``std`` hold one number for all colours or one each; ``dtype`` is that of the raw input.
    """

    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    color: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NHWC"
    dtype: str = "uint8"

    @staticmethod
    def of(document: dict[str, Any]) -> Preprocess:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        sizes = {
            key: tuple(fields.count(size, 1) for size in fields.items(document[key])) for key in ("resize", "crop")
        }
        numbers = {key: tuple(map(fields.number, fields.items(document[key]))) for key in ("mean", "std")}
        step = Preprocess(**{**document, **sizes, **numbers, "scale": fields.number(document["scale"])})
        step._check()
        return step

    def _check(self) -> None:
        if len(self.resize) > 2 or len(self.crop) not in (0, 2):
            raise ValueError(f"resize {self.resize}, crop {self.crop}")
        if not self.mean or not self.std or 0 in self.std:
            raise ValueError(f"mean {self.mean}, std {self.std}")
        if self.color not in ("rgb", "bgr") or self.layout not in ("NHWC", "NCHW") or self.dtype not in DTYPES:
            raise ValueError(f"color {self.color!r}, layout {self.layout!r}, dtype {self.dtype!r}")

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def accepts(self, spec: TensorSpec) -> TensorSpec:
        """What ``predict`` takes for a model input of this spec."""
        batch, *sizes = spec.shape
        if self.layout == "NCHW" and len(sizes) == 3:
            sizes = [*sizes[1:], sizes[0]]
        if (self.resize or self.crop) and len(sizes) == 3:
            sizes = [None, None, sizes[2]]
        return TensorSpec(spec.name, self.dtype, (batch, *sizes), spec.tensor)

    def apply(self, raw: Array, dtype: str) -> Array:
        """The model's input, always with its batch axis. Raises: InvalidInput for an image too small to crop."""
        import numpy as np

        x = raw
        if self.resize:
            x = _resize(x, self.resize)
        if self.crop:
            x = _crop(x, self.crop)
        if self.color == "bgr":
            x = x[..., ::-1]
        if self._moves_no_value(x.dtype.name, dtype):
            x = x if dtype == "uint8" else (x ^ np.uint8(128)).view(np.int8)
        else:
            x = self._normalized(x)
            x = x if dtype.startswith("float") else _whole(x, dtype)
        if self.layout == "NCHW":
            x = np.moveaxis(x, -1, -3)
        return np.ascontiguousarray(x).astype(dtype, copy=False)

    def _normalized(self, x: Array) -> Array:
        """Whole rows at a time: numpy takes several times as long for a few colours at a time."""
        import numpy as np

        width = x.shape[-2] if x.ndim > 2 else 1
        rows = x.astype(np.float32).reshape((*x.shape[:-2], width * x.shape[-1]) if width > 1 else x.shape)
        mean, std = (np.asarray(each, np.float32) for each in (self.mean, self.std))
        mean, std = (each if each.size == 1 else np.tile(each, width) for each in (mean, std))
        rows *= np.float32(self.scale)
        rows -= mean
        rows /= std
        return rows.reshape(x.shape)

    def _moves_no_value(self, have: str, want: str) -> bool:
        """Whether pixels stay pixels, or become signed ones, for which no float is needed."""
        shift = {"uint8": 0.0, "int8": 128.0}.get(want)
        return have == "uint8" and (self.scale, self.mean, self.std) == (1.0, (shift,), (1.0,))


def _whole(x: Array, dtype: str) -> Array:
    """Rounded, and held within 8 bits where there are only 8, so that nothing wraps around."""
    import numpy as np

    low, high = {"int8": (-128, 127), "uint8": (0, 255)}.get(dtype, (-np.inf, np.inf))
    return np.clip(np.rint(x), low, high)


def _resize(images: Array, size: tuple[int, ...]) -> Array:
    import numpy as np

    height, width = images.shape[-3:-1]
    if len(size) == 1:
        ratio = size[0] / min(height, width)
        size = (max(size[0], round(height * ratio)), max(size[0], round(width * ratio)))
    if (height, width) == size:
        return images
    rows, columns = _samples(height, size[0]), _samples(width, size[1])
    made = np.empty((*images.shape[:-3], *size, images.shape[-1]), np.float32)
    step = max(1, BLOCK_BYTES * height // (4 * images.size))
    for at in range(0, size[0], step):
        block = _lerp(images, -3, tuple(each[at : at + step] for each in rows))
        made[..., at : at + step, :, :] = _lerp(block, -2, columns)
    return made


def _samples(have: int, size: int) -> tuple[Array, Array, Array]:
    """The places below and above each sample, at pixel centres, edges repeated; and the weight of the one above."""
    import numpy as np

    at = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, have - 1), (at - low).astype(np.float32)


def _lerp(x: Array, axis: int, samples: tuple[Array, ...]) -> Array:
    """Linear interpolation along one axis, float32."""
    import numpy as np

    low, high, weight = samples
    below = np.take(x, low, axis).astype(np.float32, copy=False)
    above: Array = np.take(x, high, axis).astype(np.float32, copy=False)
    above -= below
    above *= weight.reshape([-1] + [1] * (-axis - 1))
    above += below
    return above


def _crop(images: Array, size: tuple[int, ...]) -> Array:
    height, width = images.shape[-3:-1]
    if height < size[0] or width < size[1]:
        raise InvalidInput(f"an image of {height}×{width} is smaller than the crop {size[0]}×{size[1]}")
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return images[..., top : top + size[0], left : left + size[1], :]
