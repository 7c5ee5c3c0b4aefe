"""Target profiles: what a kind of device is, which engine it gets and in which form a model suits it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgekit.config import decode, nearest, read_toml
from edgekit.errors import ConfigError
from edgekit.precision import Precision
from edgekit_runtime.manifest import EngineNeed

Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a profile: strict, and frozen once read."""


class EngineChoice(_Table, frozen=True):
    """An engine that the target runs, and how a device gets it."""

    name: str
    package: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")]
    """The distribution that ``edgekit device setup`` installs: a name, never an option of pip or an address."""
    version: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.,<>=!~*+ ]*\Z")]
    """The PEP 440 range that has wheels for the target's operating systems."""
    format: Literal["tflite", "onnx"]
    providers: tuple[str, ...] = ()
    """ONNX Runtime's execution providers, the preferred one first; the engine's own choice when empty."""


class OnnxForm(_Table, frozen=True):
    """What an ONNX model for the target must look like; ``symmetric`` holds for quantized activations."""

    opset: Annotated[int, msgspec.Meta(ge=7)]
    ir_version: Annotated[int, msgspec.Meta(ge=3)]
    activation: Literal["uint8", "int8"]
    symmetric: bool


class Source(_Table, frozen=True):
    """Where a fact of the profile comes from."""

    fact: str
    origin: str = msgspec.field(name="from")


class Target(_Table, frozen=True):
    """A profile; engines and precisions stand in order of preference where no measurement says otherwise."""

    name: str
    arch: Literal["aarch64", "x86_64"]
    """As ``uname -m`` prints it."""
    memory_mib: Positive
    """Of the smallest board sold."""
    threads: Positive
    precisions: Annotated[tuple[Precision, ...], msgspec.Meta(min_length=1)]
    engines: Annotated[tuple[EngineChoice, ...], msgspec.Meta(min_length=1)] = msgspec.field(name="engine")
    onnx: OnnxForm
    description: str = ""
    aliases: tuple[str, ...] = ()
    cpu: str = ""
    sources: tuple[Source, ...] = msgspec.field(name="source", default=())


def needs(engines: Sequence[EngineChoice], threads: int) -> tuple[EngineNeed, ...]:
    """A target's engines as a device is asked for them."""
    return tuple(EngineNeed(each.name, each.version, each.providers, threads) for each in engines)


def names() -> list[str]:
    """The names of the profiles that come with edgekit, sorted; aliases are not among them."""
    return sorted(entry.name[:-5] for entry in files("edgekit.targets").iterdir() if entry.name.endswith(".toml"))


def load(name_or_path: str) -> Target:
    """The profile of that name or alias, or the one in the file when it ends in ``.toml``.

    Raises: ConfigError when no profile has that name (the known ones are listed), or the file is no profile.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        return decode(read_toml(path), Target, path)
    if name_or_path in names():
        return _shipped(name_or_path)
    profiles = [_shipped(name) for name in names()]
    by_alias = {alias: profile for profile in profiles for alias in profile.aliases}
    if name_or_path in by_alias:
        return by_alias[name_or_path]
    raise _unknown(name_or_path, [profile.name for profile in profiles], list(by_alias))


def _shipped(name: str) -> Target:
    resource = files("edgekit.targets").joinpath(f"{name}.toml")
    return decode(tomllib.loads(resource.read_text(encoding="utf-8")), Target, Path(resource.name))


def _unknown(name: str, known: list[str], aliases: list[str]) -> ConfigError:
    near = nearest(name, [*known, *aliases])
    question = f"did you mean {near!r}? " if near else ""
    hint = f"{question}known: {', '.join(known)}, or the path of a .toml file"
    return ConfigError(f"no target profile {name!r}", hint)
