"""Letter file: a letter of ``letters`` as the bytes of a safetensors file, which its device signs as it does an update.

It comes from another machine: ``parse`` takes nothing on trust but what only the protocol can tell.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Union

import numpy as np

from edgekit_runtime import fields
from edgekit_train import names, shamir, tensor_file
from edgekit_train.letters import Advert, Confirmed, Masked, Opened, Shares

Letter = Union[Advert, Shares, Masked, Confirmed, Opened]
FORMAT = "edgekit-letter-1"
MOST_DEVICES, MOST_BYTES = 10_000, 1024
KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in (Advert, Shares, Masked, Confirmed, Opened)}
_HEX = re.compile(rf"([0-9a-f]{{2}}){{0,{MOST_BYTES}}}")


def dump(letter: Letter) -> bytes:
    """``parse(dump(letter), …)`` says the same."""
    said = {key: _written(value) for key, value in vars(letter).items() if key != "vector"}
    vector = {"vector": letter.vector} if isinstance(letter, Masked) else {}
    kind = type(letter).__name__.lower()
    return tensor_file.dump(vector, {"format": FORMAT, "kind": kind, "letter": json.dumps(said, sort_keys=True)})


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return value.to_bytes(shamir.SHARE, "little").hex()
    return value if isinstance(value, str) else {key: _written(each) for key, each in value.items()}


def parse(data: bytes, most_bytes: int) -> Letter:
    """Raises: ValueError for a file that is no letter, or larger than ``most_bytes``."""
    if len(data) > most_bytes:
        raise ValueError(f"{len(data)} bytes where at most {most_bytes} can be")
    tensors, said = tensor_file.parse(data)
    if set(said) != {"format", "kind", "letter"} or said["format"] != FORMAT or said["kind"] not in KINDS:
        raise ValueError(f"no {FORMAT}")
    kind, texts = KINDS[said["kind"]], fields.load(said["letter"])
    wanted = {name: _READ[name] for name in kind.__dataclass_fields__ if name != "vector"}
    if set(texts) != set(wanted) or set(tensors) != ({"vector"} if kind is Masked else set()):
        raise ValueError("a letter with less or more than its kind has")
    parts: dict[str, Any] = {name: read(texts[name]) for name, read in wanted.items()}
    if kind is Masked:
        parts["vector"] = _vector(tensors["vector"])
    letter: Letter = kind(**parts)
    return letter


def _vector(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    if array.ndim != 1 or array.dtype != np.dtype("<u4"):
        raise ValueError("a vector has one axis, and uint32 along it")
    return array.astype(np.uint32)


def _bytes(value: object) -> bytes:
    text = fields.text(value)
    if not _HEX.fullmatch(text):
        raise ValueError(f"{text[:80]!r} are no bytes in hex")
    return bytes.fromhex(text)


def _share(value: object) -> int:
    return int.from_bytes(_bytes(value), "little")


def _each(read: Callable[[object], Any]) -> Callable[[object], Any]:
    def table(value: object) -> dict[str, Any]:
        found = fields.table(value)
        if len(found) > MOST_DEVICES:
            raise ValueError(f"a letter about {len(found)} devices")
        return {names.word(device): read(each) for device, each in found.items()}

    return table


_READ: dict[str, Callable[[object], Any]] = {
    "round": names.round_id,
    "device": names.word,
    **dict.fromkeys(("sealing", "masking", "signing", "signature", "commitment"), _bytes),
    "sealed": _each(_bytes),
    **dict.fromkeys(("dropped", "added"), _each(_share)),
}
