"""Provision: gives a device its own environment with the runtime and an engine, and tells it whom to trust.

The environment is made beside the one in use and switched to by rename. pip is brought along as a wheel, so that a
device without pip or python3-venv does; with ``offline`` all wheels come from the host, which picks those that fit
the device's Python, processor and libc.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import device as devices
from edgekit import pip, wheels
from edgekit.answer import printable
from edgekit.brought import Brought
from edgekit.errors import CommandError, ConfigError, DeviceError, TransportError
from edgekit.signing import Signer
from edgekit.target import EngineChoice, Target
from edgekit.transports import Transport

OLDEST_PYTHON = (3, 8)
INSTALL_TIMEOUT_S = 1800.0
NOTHING_ELSE = Brought()

HAS_ENV = """\
[ "$(cat "$1/env/complete" 2>/dev/null)" = "$2" ] && "$1/env/bin/python" -Ic "import edgekit_runtime" 2>/dev/null
"""
MAKE_ENV = """\
set -e
new=$1 identity=$2 pip=$3; shift 3
trap 'rm -rf "$new"' EXIT
python3 -m venv --without-pip "$new"
"$new/bin/python" -I "$pip/pip" --disable-pip-version-check install --quiet --no-warn-script-location "$@" 1>&2
echo "$identity" >"$new/complete"
trap - EXIT
"""
SWITCH_ENV = """\
set -e
home=$1 name=$2
before=$(readlink "$home/env" || :)
test -e "$home/envs/$name/complete"
sync
ln -sfn "envs/$name" "$home/env.$name"
mv -T "$home/env.$name" "$home/env"
sync
find "$home" -maxdepth 1 -name "env.*" -mmin +60 -exec rm -f {} + || :
find "$home/envs" -mindepth 1 -maxdepth 1 ! -name "$name" ! -name "${before##*/}" -mmin +60 -exec rm -rf {} + || :
"""
"""What runs keeps the environment that it was started in; younger than an hour, another one may be in the making."""

LEFT_BEHIND = """\
cd "$1/env" 2>/dev/null || exit 0
for facts in lib/python*/site-packages/*.dist-info; do
  [ -e "$facts/REQUESTED" ] || continue
  name=${facts##*/}
  name=${name%%-*}
  ls -d "$1/envs/$2"/lib/python*/site-packages/"$name"-*.dist-info >/dev/null 2>&1 || echo "$name"
done
"""
"""What somebody has asked pip for in the environment in use, and is not in the new one."""

CLEAR = 'for i in 1 2 3 4 5; do rm -rf "$@" 2>/dev/null && sleep 0.2 && [ ! -e "$1" ] && break; sleep 1; done'
"""Again where need be: what was interrupted may still be writing there."""


@dataclass(frozen=True)
class Provisioned:
    """What a device got: the engine's package and version, and whether anything had to be installed; and where.

    ``left_behind``: packages that somebody else had installed into its environment, which is another one now.
    """

    home: str
    engine: str
    version: str | None
    python: str
    installed: bool
    trusted: bool
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kit:
    """What goes into an environment: our own wheels, pip's requirements, and their wheels where they are brought."""

    requirements: tuple[str, ...]
    own: tuple[Path, ...]
    python: wheels.Python
    offline: bool

    @property
    def identity(self) -> str:
        """The same for the same environment."""
        own = (line for wheel in self.own for line in (wheel.name, wheels.digest(wheel)))
        lines = [*self.requirements, *own, self.python.tag]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def files(self) -> list[Path]:
        return [*self.own, *wheels.collect(self.python, self.requirements if self.offline else ())]


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
    brought: Brought = NOTHING_ELSE,
) -> Provisioned:
    """``brought``: what else is wanted; where it is, it stays. Raises: DeviceError, ConfigError, TransportError."""
    facts = devices.probe(transport)
    check(facts, target)
    parts = brought.beside(facts["packages"]).on(facts["arch"])
    if parts.train and not parts.masks:
        tell(f"no wheels of cryptography for {facts['arch']}: it learns, but takes no part in secure rounds")
    needs = (*requirements(facts, target, engine), *parts.requirements)
    kit = Kit(needs, tuple(map(wheels.own, parts.own)), wheels.Python.of(facts), offline)
    fresh, left = not _has(transport, facts["home"], kit.identity), tuple[str, ...]()
    if fresh:
        tell("collecting wheels")
        name = _install(transport, facts["home"], kit, tell)
        left = _left_behind(transport, facts["home"], name)
        _shell(transport, SWITCH_ENV, facts["home"], name)
    trusted = devices.call(transport, "trust", stdin={"line": signer.allowed_line()})["added"]
    version = devices.probe(transport)["engines"].get(engine.package)
    return Provisioned(facts["home"], engine.package, version, facts["python"], fresh, trusted, left)


def check(facts: dict[str, Any], target: Target) -> None:
    """Raises: DeviceError when the device can never run this target's runtime."""
    if facts["arch"] != target.arch:
        raise DeviceError(
            f"the device is {facts['arch']}, {target.name} is {target.arch}", "write the right target into fleet.toml"
        )
    if tuple(int(part) for part in facts["python"].split(".")[:2]) < OLDEST_PYTHON:
        raise DeviceError(f"the device has Python {facts['python']}", "the runtime needs Python 3.8 or newer")
    if not facts["ssh_keygen"]:
        raise DeviceError(
            "ssh-keygen is missing on the device", "install OpenSSH there (Debian: apt install openssh-client)"
        )


def requirements(facts: dict[str, Any], target: Target, engine: EngineChoice) -> tuple[str, ...]:
    """The engine, and those of the target that edgekit's environment has already: a rollback may need them."""
    ours = facts["engines"] if facts["packages"].get("edgekit-runtime") else {}
    chosen = [each for each in target.engines if each == engine or ours.get(each.package)]
    return tuple(
        line for each in chosen for line in (f"{each.package}{each.version}", *wheels.COMPANIONS.get(each.package, ()))
    )


def _has(transport: Transport, home: str, identity: str) -> bool:
    return transport.run(["sh", "-c", HAS_ENV, "edgekit", home, identity]).status == 0


def _install(transport: Transport, home: str, kit: Kit, tell: Callable[[str], None]) -> str:
    """The name of a new environment; one of its own, as an interrupted setup may still be at work on the device."""
    name, files = uuid.uuid4().hex, kit.files()
    new = f"{home}/envs/{name}"
    place = f"{new}.wheels"
    rubbish = [place, new]
    try:
        transport.run(["mkdir", "-p", place]).check()
        for file in files:
            tell(f"sending {file.name}")
            transport.put(file, f"{place}/{file.name}")
        installer = next(file.name for file in files if file.name.startswith("pip-"))
        index = ["--no-index"] if kit.offline else []
        tell("installing")
        # by its path: what an index has under the runtime's name is not ours
        wanted = [*(f"{place}/{wheel.name}" for wheel in kit.own), *kit.requirements]
        arguments = [new, kit.identity, f"{place}/{installer}", *index, "--find-links", place, *wanted]
        _shell(transport, MAKE_ENV, *arguments, hint=None if kit.offline else "with no index there, use --offline")
        rubbish.remove(new)
    finally:
        with suppress(TransportError):
            transport.run(["sh", "-c", CLEAR, "edgekit", *rubbish])
    return name


def _left_behind(transport: Transport, home: str, name: str) -> tuple[str, ...]:
    found = transport.run(["sh", "-c", LEFT_BEHIND, "edgekit", home, name]).stdout.decode(errors="replace")
    return tuple(printable(line) for line in found.split())


def _shell(transport: Transport, script: str, *arguments: str, hint: str | None = None) -> None:
    done = transport.run(["sh", "-c", script, "edgekit", *arguments], timeout_s=INSTALL_TIMEOUT_S)
    if done.status:
        wrong = printable(pip.complaint(done.stderr.decode(errors="replace")))
        raise CommandError(f"setting up the device failed: {wrong[:300]}", hint)
