"""Project: what stands in ``edgekit.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgekit.budget import Budget
from edgekit.config import decode, read_toml
from edgekit_runtime.home import NAME
from edgekit_runtime.preprocess import Preprocess

FILE = "edgekit.toml"

Size = Annotated[int, msgspec.Meta(ge=1, le=16384)]
Sizes = Annotated[list[Size], msgspec.Meta(min_length=1, max_length=2)]
Finite = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Channels = msgspec.Meta(min_length=1, max_length=4)


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where samples come from: an .npz, a folder of images, or ``package.module:function``."""

    calibration: str | None = None
    evaluation: str | None = None


class PreprocessTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[preprocess.INPUT]``: how a raw input becomes what the model takes."""

    resize: Sizes | None = None
    crop: Annotated[list[Size], msgspec.Meta(min_length=2, max_length=2)] | None = None
    color: Literal["rgb", "bgr"] = "rgb"
    scale: Finite = 1.0
    mean: Annotated[list[Finite], Channels] = msgspec.field(default_factory=lambda: [0.0])
    std: Annotated[list[Positive], Channels] = msgspec.field(default_factory=lambda: [1.0])
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    dtype: Literal["uint8", "int8", "float32"] = "uint8"

    def value(self) -> Preprocess:
        return Preprocess(
            tuple(self.resize or ()),
            tuple(self.crop or ()),
            self.color,
            self.scale,
            tuple(self.mean),
            tuple(self.std),
            self.layout,
            self.dtype,
        )


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of edgekit.toml. Paths count from the file's folder."""

    app: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")] | None = None
    version: str = ""
    model: str | None = None
    weights: str | None = None
    targets: list[str] = []
    signing_key: str | None = None
    data: Data = Data()
    preprocess: dict[str, PreprocessTable] = {}
    budget: Budget = Budget()


def load(folder: Path) -> Project:
    """The project in a folder; an empty one where there is no edgekit.toml. Raises: ConfigError."""
    path = folder / FILE
    return decode(read_toml(path), Project, Path(FILE)) if path.exists() else Project()
