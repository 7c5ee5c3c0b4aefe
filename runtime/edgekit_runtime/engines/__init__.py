"""Engines: adapters to LiteRT, tflite-runtime and ONNX Runtime behind one contract.

An engine comes in by the entry-point group ``edgekit_runtime.engines``; the built-in ones are known without it,
so that the runtime works from any folder on ``sys.path``. A new one is ``load(model, options) -> Engine``.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Protocol, TypeVar, cast

from edgekit_runtime.errors import EngineError, EngineNotInstalled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from edgekit_runtime.manifest import EngineNeed

    Array = np.ndarray[Any, Any]

Made = TypeVar("Made")


@dataclass(frozen=True)
class EngineOptions:
    """Threads to use, and execution providers in order (ONNX Runtime).

    ``plain``: without what makes the engine fast and may be at fault on a processor, where it can do without.
    ``cpus``: the cores for the engine's own threads, all for none. ``precision``: the manifest's. ``cache``: a folder
    for what the engine makes of the model.
    """

    threads: int = 1
    providers: tuple[str, ...] = ()
    plain: bool = False
    cpus: tuple[int, ...] = ()
    precision: str = ""
    cache: Path | None = None


AS_DECLARED = EngineOptions()


class Engine(Protocol):
    """One loaded model. Tensors go by the artifact's own names. ``run`` may be called from several threads.

    It may have ``share(model, feeds)``: of the model's nodes that ``provider``, the first that started, runs; and
    ``layers(model, feeds)``: what single nodes take.
    """

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


def share(engine: Engine, model: bytes, feeds: dict[str, Array]) -> float | None:
    """Of the model's nodes that the engine's provider runs; None where it cannot tell."""
    own: Callable[..., float] | None = getattr(engine, "share", None)
    with contextlib.suppress(EngineError, OSError, ValueError):
        return own(model, feeds) if own else None
    return None


def layers(engine: Engine, model: bytes, feeds: dict[str, Array]) -> list[dict[str, Any]] | None:
    """What each node takes, as the engine serves them: {"name", "op", "provider", "ms" a call}; None where it cannot
    tell. Raises: EngineError.
    """
    own: Callable[..., list[dict[str, Any]]] | None = getattr(engine, "layers", None)
    return own(model, feeds) if own else None


def load(model: bytes, needs: Sequence[EngineNeed], how: EngineOptions = AS_DECLARED) -> Engine:
    """The model in the first of the engines that is installed here. Raises: EngineNotInstalled, EngineError."""
    refusals = []
    for need in needs:
        try:
            loader, options = _loader(need.name), replace(how, threads=need.threads, providers=need.providers)
            with _staying_on(options.cpus):
                return loader(model, options)
        except EngineNotInstalled as error:
            refusals.append(error)
    wanted = " or ".join(need.name for need in needs)
    raise EngineNotInstalled(
        f"the model needs {wanted}: {'; '.join(error.message for error in refusals)}",
        refusals[0].hint if len(refusals) == 1 else "install one of them ('edgekit device setup' does)",
    )


@contextlib.contextmanager
def _staying_on(cpus: tuple[int, ...]) -> Iterator[None]:
    """Threads that are started meanwhile are (sched_setaffinity(2)); this one is not, afterwards."""
    before = os.sched_getaffinity(0)
    if not cpus or not before.issuperset(cpus):
        yield
        return
    try:
        os.sched_setaffinity(0, cpus)
        yield
    finally:
        os.sched_setaffinity(0, before)


def load_if_need_be(model: bytes, needs: Sequence[EngineNeed], how: EngineOptions = AS_DECLARED) -> tuple[Engine, str]:
    """The same with the providers that start, and why the first did not, or ""."""
    try:
        return load(model, needs, how), ""
    except EngineError as error:
        fewer = [replace(need, providers=need.providers[1:] or need.providers) for need in needs]
        if fewer == list(needs) or isinstance(error, EngineNotInstalled):
            raise
        engine, _ = load_if_need_be(model, fewer, how)
        return engine, f"{engine.provider} runs it: {error.message}"


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
