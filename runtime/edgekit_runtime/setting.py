"""Setting: how an engine serves a model where not as the manifest declares it: a safer way, or a faster one."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields
from edgekit_runtime.errors import BundleError
from edgekit_runtime.manifest import EngineNeed

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = {"litert": "XNNPACK off", "tflite": "XNNPACK off", "onnxruntime": "graph optimisations off"}


@dataclass(frozen=True)
class Setting:
    """An engine with its providers and threads; ``plain``: without what makes it fast (``EngineOptions``)."""

    need: EngineNeed
    plain: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self.need), "providers": list(self.need.providers), "plain": self.plain}

    @staticmethod
    def of(document: dict[str, Any]) -> Setting:
        """Raises: ValueError, TypeError, KeyError. ``of(setting.as_dict()) == setting``."""
        name, version = fields.text(document["name"]), fields.text(document["version"])
        providers = tuple(map(fields.text, fields.items(document["providers"])))
        need = EngineNeed(name, version, providers, fields.count(document["threads"], 1, 1024))
        return Setting(need, document["plain"] is True)

    def __str__(self) -> str:
        threads = f"{self.need.threads} thread" + "s" * (self.need.threads > 1)
        plain = (PLAIN.get(self.need.name, "plain"),) if self.plain else ()
        return ", ".join((self.need.name, *self.need.providers[:1], *plain, threads))


@dataclass(frozen=True)
class Tuned:
    """What is fastest here: threads, the cores that they stay on (all for none), and the share of the time saved."""

    engine: str
    threads: int
    cpus: tuple[int, ...] = ()
    faster: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "cpus": list(self.cpus)}

    def needs(self, declared: Sequence[EngineNeed]) -> list[EngineNeed]:
        """With those threads, as far as there are cores."""
        threads = min(self.threads, len(os.sched_getaffinity(0)))
        return [replace(need, threads=threads) if need.name == self.engine else need for need in declared]


def tuned(proof: dict[str, Any]) -> Tuned | None:
    """What a proof found; None where what is declared is as fast, or it cannot be read."""
    try:
        found = fields.table(proof["tuned"])
        cpus = tuple(fields.count(each, 0, 1023) for each in fields.items(found["cpus"]))
        threads, faster = fields.count(found["threads"], 1, 1024), fields.number(found["faster"])
        return Tuned(fields.text(found["engine"]), threads, cpus, faster) if faster > 0 else None
    except (ValueError, KeyError):
        return None


def pinned(proof: dict[str, Any]) -> Setting | None:
    """The setting with which a release was proven, None for as declared. Raises: BundleError."""
    document = proof.get("setting")
    try:
        return Setting.of(fields.table(document)) if document is not None else None
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"the setting that was proven cannot be read: {error}", "push the bundle again") from error


def ladder(needs: Sequence[EngineNeed]) -> list[Setting]:
    """What to try when the engines as declared fail: the first one made safer step by step, then the next."""
    first, *others = needs
    return [*_safer(first), *(setting for need in others for setting in (Setting(need), *_safer(need)))]


def _safer(need: EngineNeed) -> list[Setting]:
    """Fewer providers, then nothing that makes it fast, then one thread."""
    fewer = [replace(need, providers=need.providers[start:]) for start in range(1, len(need.providers))]
    last = fewer[-1] if fewer else need
    alone = [Setting(replace(last, threads=1), plain=True)] if need.threads > 1 else []
    return [*map(Setting, fewer), Setting(last, plain=True), *alone]
