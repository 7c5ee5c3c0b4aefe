"""Signatures of updates: OpenSSH's (``ssh-keygen -Y``), by a device's own key, in a namespace of their own."""

from __future__ import annotations

import base64
import hashlib
import re

from edgekit.errors import RoundError
from edgekit_train import device_key

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_SIGNATURE = re.compile(rf"\s*{_BEGIN}([A-Za-z0-9+/=\s]+){_END}\s*")


def check(device: str, digest: str, signature: str, public: str) -> None:
    """Raises: RoundError where the signature of an update's digest is not by this key, ``KIND BLOB``."""
    if not device_key.fits(public, digest, armoured(signature).encode()):
        raise RoundError(f"{device}: the update is not signed by the device's key")


def armoured(text: str) -> str:
    """A signature as OpenSSH takes it, of one whose line breaks have become spaces; "" for what is none."""
    found = _SIGNATURE.fullmatch(text)
    return f"{_BEGIN}\n{''.join(found[1].split())}\n{_END}\n" if found else ""


def fingerprint(public: str) -> str:
    """As OpenSSH shows a key, ``KIND BLOB``."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
