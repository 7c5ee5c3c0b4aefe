"""Logging in over SSH with a key: those of the agent and in files, in OpenSSH's order; never a password."""

from __future__ import annotations

import base64
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from edgekit.errors import ConnectError
from edgekit.transports.ssh_config import Resolved

LOCKED = "it has a passphrase"


def log_in(link: paramiko.Transport, host: Resolved) -> None:
    """With the first key that the host takes. Raises: ConnectError that says why none did."""
    allowed = _first_answer(link, host.user)
    if "publickey" not in allowed:
        if not allowed:
            return
        reason = f"{host.label}: it takes no keys, only {', '.join(allowed)}"
        raise ConnectError(reason, "set `PubkeyAuthentication yes` in its sshd_config")
    unusable: dict[Path, str] = {}
    with ExitStack() as held:
        if any(_takes(link, host, key) for key in _keys(host, _agent_keys(host, held), unusable)):
            return
    locked = [path for path, why in unusable.items() if why == LOCKED]
    reasons = "".join(f"; {path}: {why}" for path, why in unusable.items())
    hint = f"unlock it: ssh-add {locked[0]}" if locked else "put a key of yours there with ssh-copy-id"
    raise ConnectError(f"{host.label}: login refused, no key fits{reasons}", hint)


def _first_answer(link: paramiko.Transport, user: str) -> list[str]:
    """How the server lets people in; nothing when it has just done so. (OpenSSH asks this first, too.)"""
    try:
        return link.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return error.allowed_types


def _takes(link: paramiko.Transport, host: Resolved, key: paramiko.PKey) -> bool:
    try:
        further = link.auth_publickey(host.user, key)
    except paramiko.AuthenticationException as error:
        if link.is_active():
            return False
        hint = f"name the one that fits, for {host.host} in ~/.ssh/config: IdentityFile, and IdentitiesOnly yes"
        raise ConnectError(f"{host.label}: login refused, too many keys were tried", hint) from error
    if further:
        raise ConnectError(f"{host.label}: it asks for {', '.join(further)} after the key; edgekit has keys only")
    return True


def _keys(host: Resolved, agent: Sequence[AgentKey], unusable: dict[Path, str]) -> Iterator[paramiko.PKey]:
    """In OpenSSH's order: those of the agent that are configured, its others, files. ``unusable`` hears of the rest."""
    named = [(_public_blob(path), path) for path in host.identity_files]
    configured = {blob for blob, _ in named}
    yield from (key for key in agent if key.blob in configured)
    if not host.identities_only:
        yield from (key for key in agent if key.blob not in configured)
    in_agent = {key.blob for key in agent}
    for path in [path for blob, path in named if blob not in in_agent]:
        try:
            key = paramiko.PKey.from_path(path)
        except FileNotFoundError:
            continue
        except TypeError:  # so the library below paramiko says that a passphrase is missing
            unusable[path] = LOCKED
        except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
            unusable[path] = f"cannot be read ({error})"
        else:
            yield key


def _agent_keys(host: Resolved, held: ExitStack) -> tuple[AgentKey, ...]:
    """The keys of the host's agent, which answers until ``held`` closes; none when it is gone."""
    if sys.platform == "win32":
        return paramiko.Agent().get_keys()
    agent, wire = AgentSSH(), held.enter_context(socket.socket(socket.AF_UNIX))
    with suppress(OSError, paramiko.SSHException):
        wire.connect(host.agent_socket or "")
        agent._connect(wire)  # type: ignore[attr-defined]  # paramiko's public Agent knows SSH_AUTH_SOCK only
    return agent.get_keys()


def _public_blob(path: Path) -> bytes | None:
    """The public half of an identity: of the .pub file beside it, or it is one itself and an agent has the rest."""
    for file in (path.with_name(f"{path.name}.pub"), path):
        with suppress(OSError, ValueError, IndexError):
            return base64.b64decode(file.read_text("ascii").split(maxsplit=2)[1], validate=True)
    return None
