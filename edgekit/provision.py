"""Provision: gives a device its own environment with the runtime and an engine, and tells it whom to trust.

The environment is made beside the one in use and switched to by rename. pip is brought along as a wheel, so that a
device without pip or python3-venv does; with ``offline`` all wheels come from the host, which picks those that fit
the device's Python, processor and libc.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import device as devices
from edgekit import wheels
from edgekit.errors import CommandError, ConfigError, DeviceError
from edgekit.signing import Signer
from edgekit.target import EngineChoice, Target
from edgekit.transports import Transport

OLDEST_PYTHON = (3, 8)
INSTALL_TIMEOUT_S = 1800.0

MAKE_ENV = """\
set -e
home=$1 id=$2 pip=$3; shift 3
new="$home/envs/$id"
rm -rf "$new"
python3 -m venv --without-pip "$new"
"$new/bin/python" "$pip/pip" --disable-pip-version-check install --quiet --no-warn-script-location "$@" 1>&2
touch "$new/complete"
"""
SWITCH_ENV = """\
set -e
home=$1 id=$2
ln -sfn "envs/$id" "$home/env.new"
mv -T "$home/env.new" "$home/env"
sync
"""


@dataclass(frozen=True)
class Provisioned:
    """What a device got: the engine's package and version, and whether anything had to be installed."""

    engine: str
    version: str | None
    python: str
    installed: bool
    trusted: bool


def choose_engine(target: Target, wanted: str | None) -> EngineChoice:
    """The engine of that name, or the target's first. Raises: ConfigError."""
    for engine in target.engines:
        if wanted in (None, engine.name):
            return engine
    known = ", ".join(engine.name for engine in target.engines)
    raise ConfigError(f"{target.name} has no engine {wanted!r}", f"it has {known}")


def setup(
    transport: Transport,
    target: Target,
    engine: EngineChoice,
    signer: Signer,
    tell: Callable[[str], None],
    *,
    offline: bool = False,
) -> Provisioned:
    """Raises: DeviceError, ConfigError, TransportError."""
    facts = devices.probe(transport)
    check(facts, target)
    requirements = [wheels.RUNTIME, f"{engine.package}{engine.version}", *wheels.COMPANIONS.get(engine.package, ())]
    python = wheels.Python.of(facts)
    runtime = wheels.runtime_wheel()
    identity = hashlib.sha256("\n".join([*requirements, runtime.name, python.tag, wheels.digest(runtime)]).encode())
    fresh = not _has(transport, facts["home"], identity.hexdigest()[:16])
    if fresh:
        tell("collecting wheels")
        brought = wheels.collect(python, requirements if offline else [])
        _install(transport, facts["home"], identity.hexdigest()[:16], [runtime, *brought], requirements, tell, offline)
    _shell(transport, SWITCH_ENV, facts["home"], identity.hexdigest()[:16])
    trusted = devices.call(transport, "trust", stdin={"line": signer.allowed_line()})["added"]
    version = devices.probe(transport)["engines"].get(engine.package)
    return Provisioned(engine.package, version, facts["python"], fresh, trusted)


def check(facts: dict[str, Any], target: Target) -> None:
    """Raises: DeviceError when the device can never run this target's runtime."""
    if facts["arch"] != target.arch:
        raise DeviceError(f"the device is {facts['arch']}, {target.name} is {target.arch}", "name the right --target")
    if tuple(int(part) for part in facts["python"].split(".")[:2]) < OLDEST_PYTHON:
        raise DeviceError(f"the device has Python {facts['python']}", "the runtime needs Python 3.8 or newer")
    if not facts["ssh_keygen"]:
        raise DeviceError(
            "ssh-keygen is missing on the device", "install OpenSSH there (Debian: apt install openssh-client)"
        )


def _has(transport: Transport, home: str, identity: str) -> bool:
    return transport.run(["test", "-e", f"{home}/envs/{identity}/complete"]).status == 0


def _install(
    transport: Transport,
    home: str,
    identity: str,
    files: list[Path],
    requirements: list[str],
    tell: Callable[[str], None],
    offline: bool,
) -> None:
    place = f"{home}/envs/{identity}.wheels"
    transport.run(["mkdir", "-p", place]).check()
    try:
        for file in files:
            tell(f"sending {file.name}")
            transport.put(file, f"{place}/{file.name}")
        pip = next(file.name for file in files if file.name.startswith("pip-"))
        index = ["--no-index"] if offline else []
        tell("installing")
        _shell(transport, MAKE_ENV, home, identity, f"{place}/{pip}", *index, "--find-links", place, *requirements)
    finally:
        transport.run(["rm", "-rf", place])


def _shell(transport: Transport, script: str, *arguments: str) -> None:
    done = transport.run(["sh", "-c", script, "edgekit", *arguments], timeout_s=INSTALL_TIMEOUT_S)
    if done.status:
        text = done.stderr.decode(errors="replace").strip()
        wrong = next((line for line in text.splitlines() if line.startswith("ERROR")), text.rpartition("\n")[2])
        raise CommandError(f"setting up the device failed: {wrong[:300]}", "with no index there, use --offline")
