"""Whether the key that a host shows is the one that we know it by: OpenSSH's known_hosts files, and adding to them.

A changed or revoked key is always refused, whatever anybody allows. Host certificates are not supported:
``@cert-authority`` lines are passed over, so such a host counts as unknown unless its own key is known too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import HostKeyError
from edgekit.transports import Options
from edgekit.transports.ssh_config import Resolved

ACCEPTING = ("accept-new", "no", "off", "false")  # "no" is never more than accept-new here
REFUSING = ("yes", "true")
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # one kind of key, several ways to sign with it


@dataclass(frozen=True)
class HostKey:
    """A public key: its kind (``ssh-ed25519``) and its bytes in SSH's own encoding."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As OpenSSH prints it: ``SHA256:`` and unpadded base64."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


@dataclass(frozen=True)
class Entry:
    """A line of a known_hosts file that speaks of the host in question."""

    key: HostKey
    file: Path
    line: int
    revoked: bool = False


def known(files: Iterable[Path], name: str) -> tuple[Entry, ...]:
    """All that the files say about a host. Raises: HostKeyError for a file that is there and cannot be read."""
    return tuple(entry for file in files for entry in _entries(file, name.lower()))


def preferred(offered: Sequence[str], entries: Iterable[Entry]) -> list[str]:
    """The host key algorithms, those first for which a key is known: a host has several keys, and shows one."""
    kinds = [entry.key.kind for entry in entries if not entry.revoked]
    first = [algorithm for kind in kinds for algorithm in _ALGORITHMS.get(kind, (kind,)) if algorithm in offered]
    return list(dict.fromkeys([*first, *offered]))


def verify(key: HostKey, entries: Sequence[Entry], host: Resolved, options: Options) -> None:
    """Return when the key may be trusted. An unknown one is trusted if somebody allows it, and is then remembered.

    Raises: HostKeyError: revoked, changed, unknown and not allowed, or not to be remembered.
    """
    if is_known(key, entries, host):
        return
    _allow(key, host, options)
    for file in host.user_known_hosts[:1]:
        remember(key, host.known_as, file, hashed=host.hash_known_hosts)


def is_known(key: HostKey, entries: Sequence[Entry], host: Resolved) -> bool:
    """Whether an entry holds this key. Raises: HostKeyError when it is revoked, or when only other keys are known."""
    same = [entry for entry in entries if entry.key.blob == key.blob]
    for entry in same:
        if entry.revoked:
            raise HostKeyError(
                f"{host.label}: the host key {key} is revoked ({entry.file}:{entry.line})",
                "don't trust this machine; give it a new host key",
            )
    others = [entry for entry in entries if not entry.revoked]
    if same or not others:
        return bool(same)
    told = min(others, key=lambda entry: entry.key.kind != key.kind)  # of the same kind, if there is one
    raise HostKeyError(
        f"{host.label}: THE HOST KEY HAS CHANGED: it shows {key}, but {told.file}:{told.line} has {told.key}",
        "somebody may stand between; if the device was set up anew: "
        f"ssh-keygen -R {shlex.quote(host.known_as)} -f {shlex.quote(str(told.file))}",
    )


def remember(key: HostKey, name: str, file: Path, *, hashed: bool = False) -> None:
    """Add a line to a known_hosts file, in one write at its end. Raises: HostKeyError."""
    line = f"{_hash(name, os.urandom(20)) if hashed else name} {key.kind} {base64.b64encode(key.blob).decode()}\n"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(file, "a+b", buffering=0, opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(end - 1, 0))
            stream.write(b"\n" * (stream.read(1) not in (b"", b"\n")) + line.encode())  # one write: others append too
    except OSError as error:
        raise HostKeyError(f"the host key of {name} cannot be remembered: {error}") from error


def _allow(key: HostKey, host: Resolved, options: Options) -> None:
    strict = host.strict_host_key_checking
    if options.accept_new_host_key or strict in ACCEPTING:
        return
    if options.ask is None or strict in REFUSING:
        raise HostKeyError(
            f"{host.label}: the host key is unknown: {key}",
            "compare it (on the device: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then say --accept-new-host-key",
        )
    if not options.ask(f"The host key of {host.label} is unknown.\nIt is {key}.\nTrust it from now on?"):
        raise HostKeyError(f"{host.label}: the host key {key} was not accepted")


def _entries(file: Path, name: str) -> Iterator[Entry]:
    try:
        text = file.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostKeyError(f"the known host keys cannot be read: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        marker = words.pop(0) if line.startswith("@") else ""
        if marker in ("", "@revoked") and len(words) > 2 and _matches(words[0], name) and (key := _key(*words[1:3])):
            yield Entry(key, file, number, revoked=bool(marker))


def _key(kind: str, encoded: str) -> HostKey | None:
    """The key of a line; None when it is damaged, or not of the kind that the line says."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return HostKey(kind, blob) if blob[4:].startswith(kind.encode()) else None


def _matches(hosts: str, name: str) -> bool:
    """Whether the first field of a line means this host: hashed, or patterns with commas, of which ``!`` excludes."""
    if hosts.startswith("|1|"):
        return _hashed_name(hosts, name)
    patterns = [pattern.lower() for pattern in hosts.split(",")]
    if any(_like(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_like(pattern, name) for pattern in patterns)


def _like(pattern: str, name: str) -> bool:
    # not fnmatch: `[host]:port` is no character class
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None


def _hashed_name(field: str, name: str) -> bool:
    try:
        return field == _hash(name, base64.b64decode(field.split("|")[2], validate=True))
    except (IndexError, ValueError):
        return False


def _hash(name: str, salt: bytes) -> str:
    digest = hmac.digest(salt, name.lower().encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
