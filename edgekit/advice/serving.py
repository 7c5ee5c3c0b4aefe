"""Serving: with what a release runs on a device, as the device tells it beside its windows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from edgekit_runtime.home import NAME

Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
MOST = 200
"""Releases, of one device."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Served:
    """A release on a device. ``engine`` and ``threads`` as it was proven there; ``target`` is the class of the device.

    ``source``: the digest of the model that it was built from. ``host_p50_ms``: what its build measured of it on the
    host, ``base_p50_ms`` of that model in float. ``max_p95_ms``: what its budget allows.
    """

    device: str
    app: str
    release: str
    target: str
    format: str
    precision: str
    engine: str
    threads: int
    live: bool = False
    source: str = ""
    sequence: int = 0
    host_p50_ms: float | None = None
    base_p50_ms: float | None = None
    max_p95_ms: float | None = None


class _Said(msgspec.Struct, frozen=True):
    """What a device may say; what else it says is ignored, for it may be newer."""

    app: Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
    release: Annotated[str, msgspec.Meta(pattern=rf"^{_DIGEST.pattern}\Z")]
    target: Word
    format: Word
    precision: Word
    engine: Word
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    live: bool = False
    source: Annotated[str, msgspec.Meta(pattern=rf"^({_DIGEST.pattern})?\Z")] = ""
    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    host_p50_ms: Milliseconds | None = None
    base_p50_ms: Milliseconds | None = None
    max_p95_ms: Milliseconds | None = None


def read(device: str, documents: object) -> list[Served]:
    """What a device said of its releases; what no runtime says is skipped: a device may say anything."""
    return list(_read(device, documents if isinstance(documents, list) else []))


def _read(device: str, documents: Iterable[Any]) -> Iterator[Served]:
    for _, document in zip(range(MOST), documents, strict=False):
        try:
            said = msgspec.convert(document, _Said, strict=True)
        except msgspec.ValidationError:
            continue
        facts = {name: getattr(said, name) for name in said.__struct_fields__}
        yield Served(device, **facts)
