"""Trust: whose signatures this device takes, in OpenSSH's own files (ssh-keygen(1), ALLOWED SIGNERS and ``-r``).

``trust/allowed_signers`` has a line for each signer, ``trust/revoked_signers`` a line for each public key that is
trusted no more. A revoked key keeps its line in the first, so that its owner can still be named; OpenSSH takes nothing
when the second cannot be read.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit_runtime import durable
from edgekit_runtime.errors import DeviceError, RevokedSigner, SignatureError
from edgekit_runtime.verify import NAMESPACE, REVOKED

if TYPE_CHECKING:
    from pathlib import Path

_KEY = r"(?P<kind>(?:ssh|sk|ecdsa)-[a-z0-9@.-]+) (?P<blob>[A-Za-z0-9+/]+={0,2})(?: [ -~]*)?"
_LINE = re.compile(
    r'(?P<principals>[A-Za-z0-9@._*?,+-]+)(?P<options>(?: [a-z-]+(?:="[^"]*")?(?:,[a-z-]+(?:="[^"]*")?)*)?) ' + _KEY
)
"""A line of allowed_signers; OpenSSH passes over one that it cannot read, and nobody would be told."""


@dataclass(frozen=True)
class Signer:
    """Who may sign: the name, and the public key as ``KIND BLOB``."""

    name: str
    key: str
    revoked: bool = False


def file(home: Path) -> Path:
    """Where a device keeps who may sign."""
    return home / "trust" / "allowed_signers"


def signers(allowed_signers: Path) -> list[Signer]:
    """All that the file names, revoked ones too; not the lines that OpenSSH itself would pass over."""
    gone = set(_lines(allowed_signers.with_name(REVOKED)))
    lines = (_LINE.fullmatch(line) for line in _lines(allowed_signers))
    found = [(line["principals"].partition(",")[0], f"{line['kind']} {line['blob']}") for line in lines if line]
    return [Signer(name, key, key in gone) for name, key in found]


def add(allowed_signers: Path, line: str) -> bool:
    """Trust a signer by its line, unless it is there; whether it was new.

    Raises: SignatureError for no such line, RevokedSigner for a key that was revoked here.
    """
    line = line.strip()
    found = _LINE.fullmatch(line)
    if not found or f'namespaces="{NAMESPACE}"' not in found["options"] or not _is_key(found):
        raise SignatureError("not a line of allowed_signers for edgekit", "see ssh-keygen(1), ALLOWED SIGNERS")
    if f"{found['kind']} {found['blob']}" in _lines(allowed_signers.with_name(REVOKED)):
        raise RevokedSigner("this key was revoked on the device, which does not take it again", "use a new key")
    return _append(allowed_signers, line)


def revoke(allowed_signers: Path, key: str) -> bool:
    """Trust a public key no more, ``KIND BLOB``; whether that was new.

    Raises: SignatureError for no key, DeviceError when nobody would be left who may sign.
    """
    key = public_key(key)
    good = {each.key for each in signers(allowed_signers) if not each.revoked}
    if good == {key}:
        raise DeviceError("no other key could sign for this device", "trust another one first: 'edgekit trust add'")
    return _append(allowed_signers.with_name(REVOKED), key)


def public_key(text: str) -> str:
    """``KIND BLOB``, without the comment. Raises: SignatureError for no key."""
    found = re.fullmatch(_KEY, text.strip())
    if not found or not _is_key(found):
        raise SignatureError("not a public key of OpenSSH", "see ssh-keygen(1)")
    return f"{found['kind']} {found['blob']}"


def _append(path: Path, line: str) -> bool:
    have = path.read_bytes().splitlines() if path.exists() else []
    if line.encode() in have:
        return False
    durable.folder(path.parent)
    durable.write(path, b"".join(old + b"\n" for old in [*have, line.encode()]))
    return True


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []


def _is_key(found: re.Match[str]) -> bool:
    try:
        blob = base64.b64decode(found["blob"], validate=True)
    except ValueError:
        return False
    kind = found["kind"].encode()
    return blob.startswith(len(kind).to_bytes(4, "big") + kind)
