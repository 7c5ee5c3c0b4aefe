"""Project: what stands in ``edgekit.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgekit.budget import Budget
from edgekit.config import decode, read_toml
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.home import NAME
from edgekit_runtime.preprocess import Preprocess

FILE = "edgekit.toml"

Size = Annotated[int, msgspec.Meta(ge=1, le=16384)]
Sizes = Annotated[list[Size], msgspec.Meta(min_length=1, max_length=2)]
Finite = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Channels = msgspec.Meta(min_length=1, max_length=4)
Axis = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | Literal["N"]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where samples come from: an .npz, a folder of images, or ``package.module:function``."""

    calibration: str | None = None
    evaluation: str | None = None


class InputTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[inputs.INPUT]``: sizes for what the model leaves free, with the batch; "N" leaves a size as it is."""

    shape: Annotated[list[Axis], msgspec.Meta(min_length=1, max_length=16)]

    def sizes(self) -> tuple[int | None, ...]:
        return tuple(None if isinstance(size, str) else size for size in self.shape)


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


class AgreementTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[agreement.OUTPUT]``: when two answers in an output say the same; see ``Agreement``."""

    by: Literal["top1", "cosine", "kl", "boxes", "none"]
    axis: Annotated[int, msgspec.Meta(ge=-8, le=7)] = -1
    corners: Literal["xyxy", "yxyx", "xywh", "cxcywh"] = "xyxy"
    columns: Literal["scores", "object, scores", "score, class"] = "scores"
    scores: str = ""
    classes: str = ""
    min_score: Finite = 0.25

    def value(self) -> Agreement:
        return Agreement.of(msgspec.structs.asdict(self))


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of edgekit.toml. Paths count from the file's folder."""

    app: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")] | None = None
    version: str = ""
    model: str | None = None
    weights: str | None = None
    targets: list[str] = []
    signing_key: str | None = None
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=36500)] | None = None
    shadow: bool = False
    features: bool = False
    data: Data = Data()
    inputs: dict[str, InputTable] = {}
    preprocess: dict[str, PreprocessTable] = {}
    agreement: dict[str, AgreementTable] = {}
    budget: Budget = Budget()


def load(folder: Path) -> Project:
    """The project in a folder; an empty one where there is no edgekit.toml. Raises: ConfigError."""
    path = folder / FILE
    return decode(read_toml(path), Project, Path(FILE)) if path.exists() else Project()
