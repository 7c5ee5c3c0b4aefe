"""Letter: where a device delivers to, as whom, and by what it knows the other side. It is written at its enrolment."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgekit_runtime import durable, fields
from edgekit_runtime.errors import BundleError, DeviceError
from edgekit_runtime.home import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "letter.json"
PORTS = {"https": 443, "mqtts": 8883}
MOST = 1 << 16
_TOKEN = re.compile(rf"({NAME.pattern})\.([A-Za-z0-9_-]{{32,128}})")


@dataclass(frozen=True)
class Letter:
    """``token`` is DEVICE.SECRET. ``certificate``: what the other side shows or what signs it, as PEM; "": the system
    knows. ``pinned``: it is the other side's own, whatever names and times stand in it.
    """

    url: str
    token: str
    certificate: str = ""
    pinned: bool = False

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or PORTS[self.scheme]

    @property
    def path(self) -> str:
        """Without a slash at its end."""
        return urlsplit(self.url).path.rstrip("/")

    @property
    def device(self) -> str:
        return self.token.rpartition(".")[0]

    @property
    def secret(self) -> str:
        return self.token.rpartition(".")[2]


def folder(home: Path) -> Path:
    """Where the courier keeps what it must know; nobody else looks into it."""
    place = home / "courier"
    durable.folder(home)
    try:
        os.mkdir(place, 0o700)
        durable.sync(home)
    except FileExistsError:
        pass
    return place


def of(document: Mapping[str, Any]) -> Letter:
    """Raises: ValueError, KeyError for what is no letter; the token is not told."""
    letter = Letter(
        fields.text(document["url"]),
        fields.text(document["token"]),
        fields.text(document.get("certificate", "")),
        document.get("pinned") is True,
    )
    if letter.scheme not in PORTS or not letter.host or not letter.port > 0:
        raise ValueError(f"{letter.url!r:.200} is no https:// or mqtts:// URL")
    if not _TOKEN.fullmatch(letter.token):
        raise ValueError("the token is none")
    if letter.pinned and not letter.certificate:
        raise ValueError("there is no certificate to pin")
    return letter


def read(home: Path) -> Letter | None:
    """None where nobody has enrolled this device. Raises: DeviceError for a letter that cannot be read."""
    path = home / "courier" / FILE
    try:
        return of(fields.load(durable.read(path, MOST)))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, BundleError) as error:
        raise DeviceError(f"{path}: cannot be read ({type(error).__name__})", "edgekit collect enrol NAME") from error


def write(place: Path, letter: Letter) -> None:
    """Into the courier's folder, for its owner alone."""
    before = os.umask(0o077)
    try:
        durable.write(place / FILE, json.dumps(asdict(letter)).encode())
    finally:
        os.umask(before)
