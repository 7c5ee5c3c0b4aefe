"""Signing bundles with OpenSSH (``ssh-keygen -Y sign``): the key that people have, or one made on first use."""

from __future__ import annotations

import getpass
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from edgekit.errors import ConfigError, EdgekitError
from edgekit_runtime.verify import NAMESPACE, message


@dataclass(frozen=True)
class Signer:
    """A private key of OpenSSH (or the public one, where the agent holds the other half), by its file."""

    key: Path

    def sign(self, digest: str) -> str:
        """The armoured signature (SSHSIG) of a bundle's digest. Raises: ConfigError, EdgekitError."""
        done = _ssh_keygen(["-Y", "sign", "-n", NAMESPACE, "-f", str(self.key)], message(digest))
        if done.returncode:
            raise ConfigError(
                f"{self.key}: cannot sign with it: {_last_line(done)}", "unlock it with ssh-add, or name another"
            )
        return done.stdout.decode()

    def allowed_line(self) -> str:
        """The line of allowed_signers that lets devices trust this key for edgekit's bundles only."""
        return f'{principal()} namespaces="{NAMESPACE}" {self.public()}'

    def public(self) -> str:
        """The public key, ``KIND BLOB``. Raises: ConfigError."""
        done = _ssh_keygen(["-y", "-P", "", "-f", str(self.key)], b"")
        public = self.key.with_name(f"{self.key.name}.pub")
        if done.returncode and not public.exists():
            raise ConfigError(f"{self.key}: no key that OpenSSH reads: {_last_line(done)}", "is its .pub beside it?")
        kind, blob, *_ = (public.read_text() if public.exists() else done.stdout.decode()).split()
        return f"{kind} {blob}"


def default_key() -> Path:
    """Where the key lies when no other is named."""
    return Path(platformdirs.user_config_dir("edgekit")) / "signing_key"


def signer(key: Path | None) -> Signer:
    """The signer of a key; without one, that of our own key, which is made on first use.

    Raises: ConfigError when the named key is missing, EdgekitError without OpenSSH.
    """
    if key is not None:
        if not key.exists():
            raise ConfigError(f"{key}: no such signing key", "make one with: ssh-keygen -t ed25519")
        return Signer(key)
    path = default_key()
    if not path.exists():
        make(path)
    return Signer(path)


def make(path: Path) -> None:
    """A new key, wholly or not at all, in place of what is there. Raises: EdgekitError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    done = _ssh_keygen(["-q", "-t", "ed25519", "-N", "", "-C", "edgekit", "-f", str(fresh)], b"")
    if done.returncode:
        raise EdgekitError(f"{path}: cannot make a signing key: {_last_line(done)}")
    fresh.with_name(f"{fresh.name}.pub").replace(path.with_name(f"{path.name}.pub"))
    fresh.replace(path)


def principal() -> str:
    return re.sub(r"[^A-Za-z0-9@._-]", "-", f"{getpass.getuser()}@{socket.gethostname()}")


def _ssh_keygen(arguments: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise EdgekitError("ssh-keygen is missing", "install OpenSSH (Debian: apt install openssh-client)") from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
