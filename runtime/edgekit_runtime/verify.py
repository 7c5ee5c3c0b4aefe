"""Signatures: OpenSSH's own (``ssh-keygen -Y``, namespace ``edgekit``) over the bundle's image digest.

The format is SSHSIG (OpenSSH PROTOCOL.sshsig); who may sign stands in ``trust/allowed_signers``
(ssh-keygen(1), ALLOWED SIGNERS). No cryptography of our own, none installed on the device.
"""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
from typing import TYPE_CHECKING

from edgekit_runtime import durable
from edgekit_runtime.errors import DeviceError, SignatureError

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "edgekit"
TIMEOUT_S = 30

_LINE = re.compile(
    r'(?P<principals>[A-Za-z0-9@._*?,+-]+)(?P<options>(?: [a-z-]+(?:="[^"]*")?(?:,[a-z-]+(?:="[^"]*")?)*)?)'
    r" (?P<kind>(?:ssh|sk|ecdsa)-[a-z0-9@.-]+) (?P<blob>[A-Za-z0-9+/]+={0,2})(?: [ -~]*)?"
)
"""A line of allowed_signers; OpenSSH passes over one that it cannot read, and nobody would be told."""


def message(digest: str) -> bytes:
    """What is signed for a bundle."""
    return f"{digest}\n".encode()


def verify(digest: str, signature: str, allowed_signers: Path) -> str:
    """The name of the signer. Raises: SignatureError, or DeviceError where OpenSSH is missing."""
    if not signature.strip():
        raise SignatureError("the bundle is not signed", "build it again with 'edgekit build'")
    if not allowed_signers.exists():
        raise SignatureError("this device trusts no signer yet", "run 'edgekit device setup' for it")
    with tempfile.NamedTemporaryFile(suffix=".sig") as file:
        file.write(signature.encode(errors="replace"))
        file.flush()
        trust = ["-s", file.name, "-f", str(allowed_signers)]
        found = _ssh_keygen(["-Y", "find-principals", *trust], message(digest))
        signer = found.stdout.decode(errors="replace").partition("\n")[0].partition(",")[0].strip()
        if found.returncode or not signer:
            raise SignatureError(
                "the bundle is signed by a key that this device does not trust",
                "run 'edgekit device setup' from the host whose key it should trust",
            )
        checked = _ssh_keygen(["-Y", "verify", "-n", NAMESPACE, "-I", signer, *trust], message(digest))
    if checked.returncode:
        raise SignatureError(f"the signature of {signer} does not fit this bundle", "push an untouched copy")
    return signer


def trust(allowed_signers: Path, line: str) -> bool:
    """Add a line to allowed_signers unless it is there; whether it was new. Raises: SignatureError for no such line."""
    line = line.strip()
    if not _is_signer(line):
        raise SignatureError("not a line of allowed_signers for edgekit", "see ssh-keygen(1), ALLOWED SIGNERS")
    have = allowed_signers.read_bytes().splitlines() if allowed_signers.exists() else []
    if line.encode() in have:
        return False
    durable.folder(allowed_signers.parent)
    durable.write(allowed_signers, b"".join(old + b"\n" for old in [*have, line.encode()]))
    return True


def _is_signer(line: str) -> bool:
    found = _LINE.fullmatch(line)
    if not found or f'namespaces="{NAMESPACE}"' not in found["options"]:
        return False
    try:
        blob = base64.b64decode(found["blob"], validate=True)
    except ValueError:
        return False
    kind = found["kind"].encode()
    return blob.startswith(len(kind).to_bytes(4, "big") + kind)


def _ssh_keygen(arguments: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, timeout=TIMEOUT_S)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise DeviceError(
            "ssh-keygen is missing here", "install OpenSSH (Debian: apt install openssh-client)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"ssh-keygen did not answer in {TIMEOUT_S} s") from error
