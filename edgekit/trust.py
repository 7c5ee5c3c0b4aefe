"""Trust: whose signatures a device takes.

A device is told over the way by which it is pushed to: who may log in there could change its files anyway.
"""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgekit import device as devices
from edgekit.errors import ConfigError, SignatureError
from edgekit.transports import Transport
from edgekit_runtime.trust import public_key
from edgekit_runtime.verify import NAMESPACE

PUBLIC = ".pub"


@dataclass(frozen=True)
class Signer:
    """A signer by name, and the public key as ``KIND BLOB``; ``revoked``: trusted no more."""

    name: str
    key: str
    revoked: bool = False

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it."""
        digest = hashlib.sha256(base64.b64decode(self.key.split()[1])).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def read(file: Path) -> Signer:
    """The key in a public key's file, its comment as name. Raises: ConfigError."""
    try:
        text = file.read_text("ascii")
        key = public_key(text)
    except (OSError, UnicodeDecodeError, SignatureError) as error:
        raise ConfigError(f"{file}: no public key of OpenSSH", "name the .pub file of a key") from error
    comment = text.strip().partition(key)[2].strip() or file.stem
    return Signer(re.sub(r"[^A-Za-z0-9@._-]+", "-", comment).strip("-") or "signer", key)


def signers(transport: Transport) -> list[Signer]:
    """All that a device knows. Raises: DeviceError, TransportError."""
    return [Signer(**each) for each in devices.call(transport, "signers")["signers"]]


def add(transport: Transport, signer: Signer) -> bool:
    """Let a device trust a key; whether it did not before. Raises: RevokedSigner, DeviceError, TransportError."""
    if signer.key in [each.key for each in signers(transport) if not each.revoked]:
        return False
    line = f'{signer.name} namespaces="{NAMESPACE}" {signer.key}'
    return bool(devices.call(transport, "trust", stdin={"line": line})["added"])


def revoke(transport: Transport, who: str) -> bool:
    """Let a device trust a key no more, whether it knew it or not; whether that is new.

    ``who``: a public key's file, a key (``KIND BLOB``), its fingerprint, or a name there, for all keys of that name.
    Raises: ConfigError for nobody of that name, DeviceError, TransportError.
    """
    answers = [devices.call(transport, "revoke", stdin={"key": key}) for key in _meant(transport, who)]
    return any(answer["revoked"] for answer in answers)


def _meant(transport: Transport, who: str) -> list[str]:
    with suppress(SignatureError):
        return [public_key(who)]
    if who.endswith(PUBLIC):
        return [read(Path(who)).key]
    there = signers(transport)
    keys = [each.key for each in there if who in (each.name, each.fingerprint)]
    if not keys:
        names = ", ".join(sorted({each.name for each in there})) or "nobody"
        raise ConfigError(f"no signer {who!r}", f"it knows {names}; or name a .pub file or a fingerprint")
    return keys
