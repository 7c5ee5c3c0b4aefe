"""Signatures: OpenSSH's own (``ssh-keygen -Y``, namespace ``edgekit``) over a digest.

The format is SSHSIG (OpenSSH PROTOCOL.sshsig); who may sign stands in ``trust/allowed_signers``, whose keys are
trusted no more in ``trust/revoked_signers`` (ssh-keygen(1), ALLOWED SIGNERS and ``-r``; see ``trust``). No
cryptography of our own, none installed on the device.
"""

from __future__ import annotations

import subprocess
import tempfile
from typing import TYPE_CHECKING

from edgekit_runtime.errors import DeviceError, RevokedSigner, SignatureError, UnknownSigner

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "edgekit"
REVOKED = "revoked_signers"
TIMEOUT_S = 30


def message(digest: str) -> bytes:
    """What is signed."""
    return f"{digest}\n".encode()


def verify(digest: str, signature: str, allowed_signers: Path, what: str = "bundle") -> str:
    """The name of the signer. Raises: SignatureError and its kin, or DeviceError where OpenSSH is missing."""
    if not signature.strip():
        raise SignatureError(f"the {what} is not signed", "make it again")
    with tempfile.NamedTemporaryFile(suffix=".sig") as file:
        file.write(signature.encode(errors="replace"))
        file.flush()
        return _signer(message(digest), ["-n", NAMESPACE, "-s", file.name], allowed_signers, what)


def _signer(data: bytes, signed: list[str], allowed_signers: Path, what: str) -> str:
    """Two programs where all is well, as each costs a small board a while; what is wrong is found out afterwards."""
    if not allowed_signers.exists():
        raise UnknownSigner("this device trusts no signer yet", "run 'edgekit device setup' for it")
    trusted = [*signed, "-f", str(allowed_signers)]
    found = ssh_keygen(["-Y", "find-principals", *trusted], data)
    signer = found.stdout.decode(errors="replace").partition("\n")[0].partition(",")[0].strip()
    named = ["-Y", "verify", *trusted, "-I", signer]
    revoked = allowed_signers.with_name(REVOKED)
    unless = ["-r", str(revoked)] if revoked.exists() else []
    if not found.returncode and signer and not ssh_keygen([*named, *unless], data).returncode:
        return signer
    if ssh_keygen(["-Y", "check-novalidate", *signed], data).returncode:
        raise SignatureError(f"the signature does not fit this {what}", "send an untouched copy")
    if unless and signer and not ssh_keygen(named, data).returncode:
        raise RevokedSigner(
            f"the {what} is signed by a key of {signer} that is revoked on this device",
            "sign it with one that is not ('edgekit trust list')",
        )
    raise UnknownSigner(
        f"the {what} is signed by a key that this device does not trust",
        "run 'edgekit device setup' from the host whose key it should trust",
    )


def ssh_keygen(arguments: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    """Raises: DeviceError where it is missing, or hangs."""
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, timeout=TIMEOUT_S)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise DeviceError(
            "ssh-keygen is missing here", "install OpenSSH (Debian: apt install openssh-client)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"ssh-keygen did not answer in {TIMEOUT_S} s") from error
