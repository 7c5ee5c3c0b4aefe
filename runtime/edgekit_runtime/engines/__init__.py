"""Engines: adapters to LiteRT, tflite-runtime and ONNX Runtime behind one contract.

An engine comes in by the entry-point group ``edgekit_runtime.engines``; the built-in ones are known without it,
so that the runtime works from any folder on ``sys.path``. A new one is ``load(model, options) -> Engine``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Protocol, TypeVar, cast

from edgekit_runtime.errors import EngineNotInstalled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from edgekit_runtime.manifest import EngineNeed

    Array = np.ndarray[Any, Any]

Made = TypeVar("Made")


@dataclass(frozen=True)
class EngineOptions:
    """Threads to use, and execution providers in order (ONNX Runtime).

    ``plain``: without what makes the engine fast and may be at fault on a processor, where it can do without.
    """

    threads: int = 1
    providers: tuple[str, ...] = ()
    plain: bool = False


class Engine(Protocol):
    """One loaded model. Tensors go by the artifact's own names. ``run`` may be called from several threads."""

    name: str
    version: str
    provider: str

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Outputs that the caller owns. Raises: EngineError."""

    def close(self) -> None: ...


def lend(engine: Engine, feeds: dict[str, Array], use: Callable[[dict[str, Array]], Made]) -> Made:
    """What ``use`` makes of the outputs; of an engine with a ``lend`` of its own they are its memory, and it checks
    that none of them is kept. Raises: EngineError, and what ``use`` does.
    """
    own: Callable[..., Made] | None = getattr(engine, "lend", None)
    return own(feeds, use) if own else use(engine.run(feeds))


BUILT_IN = {
    "litert": "edgekit_runtime.engines.litert:load",
    "onnxruntime": "edgekit_runtime.engines.ort:load",
    "tflite": "edgekit_runtime.engines.litert:load_tflite",
}


def load(model: bytes, needs: Sequence[EngineNeed], *, plain: bool = False) -> Engine:
    """The model in the first of the engines that is installed here. Raises: EngineNotInstalled, EngineError."""
    refusals = []
    for need in needs:
        try:
            return _loader(need.name)(model, EngineOptions(need.threads, need.providers, plain))
        except EngineNotInstalled as error:
            refusals.append(error)
    wanted = " or ".join(need.name for need in needs)
    raise EngineNotInstalled(
        f"the model needs {wanted}: {'; '.join(error.message for error in refusals)}",
        refusals[0].hint if len(refusals) == 1 else "install one of them ('edgekit device setup' does)",
    )


def _loader(name: str) -> Callable[[bytes, EngineOptions], Engine]:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return cast("Callable[[bytes, EngineOptions], Engine]", getattr(import_module(module), attribute))
    from importlib.metadata import entry_points

    found: Any = entry_points()
    group = "edgekit_runtime.engines"
    plugged = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
    for entry in plugged:
        if entry.name == name:
            return _plugged(entry)
    known = sorted({*BUILT_IN, *(entry.name for entry in plugged)})
    raise EngineNotInstalled(f"no engine {name!r}", f"known: {', '.join(known)}")


def _plugged(entry: Any) -> Callable[[bytes, EngineOptions], Engine]:
    try:
        return cast("Callable[[bytes, EngineOptions], Engine]", entry.load())
    except (ImportError, AttributeError) as error:
        raise EngineNotInstalled(
            f"engine {entry.name!r} cannot be imported: {error}", f"look at {entry.value}"
        ) from error
