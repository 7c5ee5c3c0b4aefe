"""What OpenSSH would do with the name of a host, as a value: the answer of ``ssh -G``, parsed.

``Include``, ``Match`` and canonical names are OpenSSH's own business, so OpenSSH is asked. Nothing here opens a
connection or reads a key. Options that are not in ``Resolved`` have no effect on edgekit.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from edgekit.errors import ConfigError

DEFAULT_PORT = 22
ANSWER_TIMEOUT_S = 20.0  # `Match exec` runs programs
MAX_JUMPS = 8
DEFAULT_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")

# No character that means something to a shell: host and user may become part of a ProxyCommand.
_PLACE = re.compile(
    r"""(?:(?P<user>[^\s'"`;&<>|(){}$-][^\s'"`;&<>|(){}$]*)@)?"""
    r"""(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>\w[\w.-]*))(?::(?P<port>\d+))?"""
)
_NEXT_FILE = re.compile(r"\s+(?=[/~]|[A-Za-z]:)")  # `ssh -G` does not quote: a space inside a file name is no boundary


@dataclass(frozen=True)
class Address:
    """A host as a person wrote it; what is None is left to the configuration. ``config``: in place of ~/.ssh/config."""

    host: str
    user: str | None = None
    port: int | None = None
    config: Path | None = None


@dataclass(frozen=True)
class Resolved:
    """All that is needed to reach one host, log in there, and know it again."""

    host: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_only: bool
    agent_socket: str | None
    proxy_jump: tuple[str, ...]
    proxy_command: str | None
    user_known_hosts: tuple[Path, ...]
    global_known_hosts: tuple[Path, ...]
    host_key_alias: str | None
    strict_host_key_checking: str
    hash_known_hosts: bool

    @property
    def label(self) -> str:
        """``user@host:port``, the host as the person wrote it."""
        return f"{self.user}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def known_as(self) -> str:
        """The name that known_hosts files have for it."""
        if self.host_key_alias:
            return self.host_key_alias
        name = self.hostname.lower()
        return name if self.port == DEFAULT_PORT else f"[{name}]:{self.port}"


def from_uri(uri: str) -> Address:
    """``ssh://[user@]host[:port][?config=FILE]``. Raises: ConfigError for anything else, a password included."""
    try:
        parts = urlsplit(uri)
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigError(f"{uri!r} is no SSH URI: {error}", "write ssh://user@host:port") from error
    if parts.scheme != "ssh" or parts.path.strip("/") or parts.fragment or query.keys() - {"config"}:
        raise ConfigError(f"{uri!r} is no SSH URI", "write ssh://user@host:port, or with ?config=FILE behind it")
    user, at, place = parts.netloc.rpartition("@")
    if ":" in user:
        raise ConfigError("a device URI must not hold a password", "log in with a key: ssh-copy-id user@host")
    return from_place(unquote(user) + at + place, Path(query["config"][-1]).expanduser() if query else None)


def from_place(place: str, config: Path | None = None) -> Address:
    """``[user@]host[:port]``, as ProxyJump has it (``ssh://`` may stand before it). Raises: ConfigError."""
    found = _PLACE.fullmatch(place.strip().removeprefix("ssh://"))
    if not found or not 0 < int(found["port"] or DEFAULT_PORT) < 65536:
        raise ConfigError(f"{place!r} names no host", "write user@host:port; an IPv6 address stands in [brackets]")
    return Address(found["six"] or found["host"], found["user"], int(found["port"]) if found["port"] else None, config)


def ask_openssh(address: Address) -> str | None:
    """What ``ssh -G`` says about a host; None when there is no ``ssh`` here. Raises: ConfigError: it refuses."""
    program = shutil.which("ssh")
    if program is None:
        return None
    given = {"-F": address.config, "-p": address.port, "-l": address.user}
    flags = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    try:
        done = subprocess.run(
            [program, "-T", "-G", *flags, "--", address.host],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"`ssh -G {address.host}` takes longer than {ANSWER_TIMEOUT_S:g} s") from error
    if done.returncode:
        reason = "; ".join(done.stderr.splitlines())
        raise ConfigError(f"OpenSSH does not accept {address.host} or its configuration: {reason}")
    return done.stdout


def parse(answer: str, host: str) -> Resolved:
    """The answer of ``ssh -G host`` as a value; what it leaves out gets OpenSSH's default."""
    values: dict[str, list[str]] = defaultdict(list)
    for line in answer.splitlines():
        key, _, value = line.strip().partition(" ")
        values[key.lower()].append(value)

    def one(key: str, default: str = "") -> str:
        value = values[key][0] if values[key] else default
        return "" if value.lower() == "none" else value

    def hosts_files(key: str, default: str) -> tuple[Path, ...]:
        return tuple(Path(file).expanduser() for file in _NEXT_FILE.split(one(key, default)) if file)

    hostname, port, user = one("hostname", host), one("port", str(DEFAULT_PORT)), one("user", getpass.getuser())
    tokens = _tokens({"h": hostname, "n": host, "p": port, "r": user, "k": one("hostkeyalias", host)})
    agent = one("identityagent", "SSH_AUTH_SOCK")
    return Resolved(
        host=host,
        hostname=hostname,
        port=int(port),
        user=user,
        identity_files=tuple(
            Path(_expand(file, tokens)) for file in values["identityfile"] or DEFAULT_IDENTITIES if file != "none"
        ),
        identities_only=one("identitiesonly") == "yes",
        agent_socket=os.environ.get("SSH_AUTH_SOCK") if agent == "SSH_AUTH_SOCK" else _expand(agent, tokens) or None,
        proxy_jump=tuple(one("proxyjump").split(",")) if one("proxyjump") else (),
        proxy_command=_percent(one("proxycommand"), tokens) or None,
        user_known_hosts=hosts_files("userknownhostsfile", "~/.ssh/known_hosts"),
        global_known_hosts=hosts_files("globalknownhostsfile", "/etc/ssh/ssh_known_hosts"),
        host_key_alias=one("hostkeyalias") or None,
        strict_host_key_checking=one("stricthostkeychecking", "ask"),
        hash_known_hosts=one("hashknownhosts") == "yes",
    )


def route(
    address: Address, ask: Callable[[Address], str], *, via: Sequence[str] = (), jumps: int = 0
) -> list[Resolved]:
    """The hosts to pass, the address itself last. ``via`` (the rest of a ProxyJump list) outdoes its own ProxyJump.

    Raises: ConfigError when the jumps don't come to an end.
    """
    host = parse(ask(address), address.host)
    before = via or host.proxy_jump
    if not before:
        return [host]
    if jumps == MAX_JUMPS:
        raise ConfigError(
            f"more than {MAX_JUMPS} ProxyJumps on the way to {host.label}", "does one lead back to itself?"
        )
    return [*route(from_place(before[-1], address.config), ask, via=before[:-1], jumps=jumps + 1), host]


def _tokens(known: Mapping[str, str]) -> dict[str, str]:
    number = str(os.getuid()) if hasattr(os, "getuid") else ""
    own = {"%": "%", "d": str(Path.home()), "i": number, "l": socket.gethostname(), "u": getpass.getuser()}
    return {**own, **known}


def _percent(text: str, tokens: Mapping[str, str]) -> str:
    """The % tokens of ssh_config(5), which ``ssh -G`` replaces in known_hosts files only; an unknown one stays."""
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _expand(path: str, tokens: Mapping[str, str]) -> str:
    return str(Path(os.path.expandvars(_percent(path, tokens))).expanduser()) if path else ""
