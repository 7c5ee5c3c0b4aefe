"""The device's own key: an OpenSSH key by which a host tells its updates from those of others.

It is made here on first use and never leaves. What is signed is the line ``sha256:DIGEST`` of a file, in the namespace
``edgekit-update`` (SSHSIG; ssh-keygen(1), ``-Y sign``).
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from edgekit_runtime import durable, home, verify
from edgekit_runtime.errors import DeviceError

NAMESPACE, SIGNER = "edgekit-update", "device"
MOST = 1 << 16


def file(place: Path) -> Path:
    """Where the private key lies in a device's home, for its owner alone."""
    return place / "trust" / "device_key"


def public(place: Path) -> str:
    """``KIND BLOB``, of a key that is made where there is none. Raises: DeviceError, OSError."""
    said = _ssh_keygen("-y", "-P", "", "-f", str(_there(place)))
    return " ".join(said.split()[:2])


def sign(place: Path, digest: str) -> str:
    """The armoured signature over a file's digest. Raises: DeviceError, OSError."""
    return _ssh_keygen("-Y", "sign", "-n", NAMESPACE, "-f", str(_there(place)), data=verify.message(digest))


def fits(public_key: str, digest: str, signature: bytes) -> bool:
    """Whether the armoured signature over a digest is by that key, ``KIND BLOB``. Raises: DeviceError."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        allowed = Path(folder, "allowed_signers")
        allowed.write_text(f'{SIGNER} namespaces="{NAMESPACE}" {public_key}\n')
        return _verified(digest, signature, "verify", "-I", SIGNER, "-f", str(allowed))


def fits_another(public_key: str, digest: str, signature: bytes) -> bool:
    """Whether it is right, and by another key. Raises: DeviceError."""
    return not fits(public_key, digest, signature) and _verified(digest, signature, "check-novalidate")


def _verified(digest: str, signature: bytes, way: str, *words: str) -> bool:
    with tempfile.NamedTemporaryFile(prefix="edgekit-") as file:
        file.write(signature)
        file.flush()
        asked = ["-Y", way, "-n", NAMESPACE, "-s", file.name, *words]
        return verify.ssh_keygen(asked, verify.message(digest)).returncode == 0


def digest_of(data: bytes) -> str:
    """Of a file, as it is signed."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _there(place: Path) -> Path:
    """The key's file, once it is whole on the disk."""
    path = file(place)
    if not path.exists():
        durable.folder(path.parent)
        with home.held(path.parent):  # of two that are first, one makes it
            if not path.exists():
                _make(path)
    return path


def _make(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a making that was cut
    _ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "edgekit-device", "-f", str(fresh))
    fresh.with_name(f"{fresh.name}.pub").unlink()  # as ``public`` asks the private one
    data = durable.read(fresh, MOST)
    durable.adopt(fresh, path, digest_of(data), len(data))


def _ssh_keygen(*arguments: str, data: bytes = b"") -> str:
    done = verify.ssh_keygen([*arguments], data)
    if done.returncode:
        wrong = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DeviceError(f"the device's key does not work: {wrong[:200]}", "remove trust/device_key in its home")
    return done.stdout.decode(errors="replace")
