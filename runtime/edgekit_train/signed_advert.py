"""Signed advert: who takes part in a secure sum, as a device has signed it with its own key (``device_key``).

It goes over as JSON: ``letter``, a letter file; ``signature``, an armoured SSHSIG of its digest, both in base64; and
``public``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, TypeVar

from edgekit_runtime import fields, trust
from edgekit_runtime.errors import SignatureError
from edgekit_train import device_key, letter_file
from edgekit_train.letters import Advert

if TYPE_CHECKING:
    from pathlib import Path

Kind = TypeVar("Kind")
MOST = 1 << 12
"""Bytes of a letter that has no list of devices in it."""


@dataclass(frozen=True)
class SignedAdvert:
    """``public``: the key that it is said to be signed with, ``KIND BLOB``."""

    advert: Advert
    data: bytes
    signature: bytes
    public: str

    @property
    def device(self) -> str:
        return self.advert.device

    def as_dict(self) -> dict[str, str]:
        return {"letter": text(self.data), "signature": text(self.signature), "public": self.public}

    def fits(self) -> bool:
        """Whether the signature is by the key, and of the advert. Raises: DeviceError where OpenSSH is missing."""
        return device_key.fits(self.public, device_key.digest_of(self.data), self.signature)


def signed(home: Path, advert: Advert) -> SignedAdvert:
    """By this device's key. Raises: DeviceError, OSError."""
    data = letter_file.dump(advert)
    signature = device_key.sign(home, device_key.digest_of(data))
    return SignedAdvert(advert, data, signature.encode(), device_key.public(home))


def of(said: Mapping[str, Any]) -> SignedAdvert:
    """From JSON; whether it is signed is not looked at. Raises: ValueError, KeyError for anything else."""
    data = _bytes(said["letter"])
    advert = _of_kind(Advert, data, MOST)
    try:
        public = trust.public_key(fields.text(said["public"]))
    except SignatureError as error:
        raise ValueError(error.message) from error
    return SignedAdvert(advert, data, _bytes(said["signature"]), public)


def letter(kind: type[Kind], said: Mapping[str, Any], most_bytes: int = MOST) -> Kind:
    """One that goes unsigned, as it comes on its device's own connection. Raises: ValueError, KeyError."""
    return _of_kind(kind, _bytes(said["letter"]), most_bytes)


def _of_kind(kind: type[Kind], data: bytes, most_bytes: int) -> Kind:
    found: Any = letter_file.parse(data, most_bytes)
    if type(found) is not kind:
        raise ValueError(f"another letter than one of {kind.__name__}")
    letter: Kind = found
    return letter


def _bytes(value: object) -> bytes:
    return base64.b64decode(fields.text(value), validate=True)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()
