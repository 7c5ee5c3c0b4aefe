"""Task: what one device is asked to learn in one round, as a safetensors file that the host signs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import fields
from edgekit_train import names, tensor_file
from edgekit_train.compression import Compression
from edgekit_train.fixed_point import Encoding

if TYPE_CHECKING:
    from edgekit_train.update import Weights

FORMAT, SCHEMA_VERSION = "edgekit-task", "1"
MOST_SETTINGS = 100
_TEXTS = ("app", "family", "round", "device", "trainer")
_KEYS = {"format", "schema_version", *_TEXTS, "config", "sending"}


@dataclass(frozen=True, eq=False)
class Task:
    """``family``: that of the release that is live there (``family.of``), whose features are learned from.
    ``round``: 32 hex digits. ``device``: the name under which it answers. ``trainer``: a name of ``trainers``;
    ``config``: its settings. ``weights``: float32, what training starts from; {} for what the trainer begins with.

    ``clip``: the longest delta, by L2 over all tensors; ``noise``: the standard deviation of what is added to each of
    its numbers, on the device; it needs a clip, for it hides as much as that. ``secure``: how the numbers of a secure
    sum are written, of which this device tells its part only masked. Equal are tasks of the same bytes.

    There is none that makes no sense, whoever makes it. Raises: ValueError.
    """

    app: str
    family: str
    round: str
    device: str
    trainer: str = "head"
    config: dict[str, float | int | str] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    clip: float | None = None
    noise: float | None = None
    compression: Compression | None = None
    secure: Encoding | None = None

    def __post_init__(self) -> None:
        _check(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and dump(self) == dump(other)

    def __hash__(self) -> int:
        return hash((self.app, self.family, self.round, self.device))


def dump(task: Task) -> bytes:
    """The same bytes for the same task."""
    how, secure = (None if each is None else asdict(each) for each in (task.compression, task.secure))
    sending = {"clip": task.clip, "noise": task.noise, "compression": how, "secure": secure}
    said = {"config": task.config, "sending": sending}
    written = {key: json.dumps(value, sort_keys=True, ensure_ascii=False) for key, value in said.items()}
    texts = {key: getattr(task, key) for key in _TEXTS}
    return tensor_file.dump(task.weights, {"format": FORMAT, "schema_version": SCHEMA_VERSION, **texts, **written})


def parse(data: bytes, most_bytes: int) -> Task:
    """``parse(dump(t), …) == t``. Raises: ValueError for a file that is no task, or larger than ``most_bytes``."""
    if len(data) > most_bytes:
        raise ValueError(f"{len(data)} bytes where at most {most_bytes} can be")
    weights, said = tensor_file.parse(data)
    if set(said) != _KEYS or (said["format"], said["schema_version"]) != (FORMAT, SCHEMA_VERSION):
        raise ValueError(f"no {FORMAT} of version {SCHEMA_VERSION}")
    sending = fields.load(said["sending"])
    if set(sending) != {"clip", "noise", "compression", "secure"}:
        raise ValueError("what is sent is clipped, noised, compressed and masked, or not: less or more is said")
    return Task(
        **{key: said[key] for key in _TEXTS},
        config=fields.load(said["config"]),
        weights=weights,
        clip=_number(sending["clip"]),
        noise=_number(sending["noise"]),
        compression=_compression(sending["compression"]),
        secure=_secure(sending["secure"]),
    )


def _number(value: object) -> float | None:
    return None if value is None else fields.number(value)


def _compression(value: object) -> Compression | None:
    if value is None:
        return None
    said = fields.table(value)
    if set(said) != {"share", "int8"} or not isinstance(said["int8"], bool):
        raise ValueError("a compression has a share, and int8 or not")
    return Compression(fields.number(said["share"]), said["int8"])


def _secure(value: object) -> Encoding | None:
    if value is None:
        return None
    said = fields.table(value)
    if set(said) != {"most", "parties"}:
        raise ValueError("a secure sum has a largest number and parties")
    return Encoding(fields.number(said["most"]), fields.count(said["parties"]))


def _check(task: Task) -> None:
    """Raises: ValueError."""
    names.round_id(task.round)
    names.short(task.family)
    for word in (task.app, task.device, task.trainer, *task.config):
        names.word(word)
    if len(task.config) > MOST_SETTINGS:
        raise ValueError(f"{len(task.config)} settings")
    for value in task.config.values():
        _check_setting(value)
    _check_sending(task)
    for name, array in task.weights.items():
        _check_tensor(name, array)


def _check_setting(value: object) -> None:
    if isinstance(value, str):
        names.short(value)
    elif isinstance(value, int):
        fields.count(value, -fields.MOST)
    else:
        fields.number(value)


def _check_sending(task: Task) -> None:
    for limit in (task.clip, task.noise):
        if limit is not None and fields.number(limit) <= 0:
            raise ValueError(f"a clip or noise of {limit!r}")
    if task.noise is not None and task.clip is None:
        raise ValueError("noise without a clip hides nothing: say both")
    if task.secure and (task.noise, task.compression) != (None, None):
        raise ValueError("a secure sum has neither noise of devices nor a small form")
    if task.secure and not 0 < (task.clip or 0) <= task.secure.most:
        raise ValueError("a secure sum needs a clip, which its numbers hold")


def _check_tensor(name: str, array: np.ndarray[Any, Any]) -> None:
    if names.short(name) == tensor_file.METADATA:
        raise ValueError(f"no name of a tensor: {name!r}")
    if array.dtype != np.float32:
        raise ValueError(f"{name}: {array.dtype} where float32 must be")
