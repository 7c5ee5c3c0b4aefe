"""Timing: models that are not installed, side by side on this machine, each loaded and run as it would be served."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgekit_runtime import golden, manifest
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.session import Session

if TYPE_CHECKING:
    from pathlib import Path

TURN, WARM_UP = 16, 4
"""Calls that a model makes in its turn, and as many of them are not timed."""
CALLS = 200
LONGEST_S = 20.0
"""A model makes its timed calls in this, or as many of them as there is time for."""


def time_models(folder: Path) -> dict[str, Any]:
    """By name, for each NAME.json (a manifest), NAME.model and NAME.npz (golden vectors) in a folder: nanoseconds of
    each ``predict``, and the engine that ran it; or the error that it met. Models take turns.
    """
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        open_models = {}
        for path in sorted(folder.glob("*.json")):
            try:
                open_models[path.stem] = stack.enter_context(_session(path)), _inputs(path)
                found[path.stem] = {"times_ns": []}
            except EdgekitError as error:
                found[path.stem] = {"error": error.as_dict()}
        while waiting := [name for name in open_models if _unfinished(found[name])]:
            for name in waiting:
                found[name] = _turn(*open_models[name], found[name])
    return found


def _session(path: Path) -> Session:
    told = manifest.parse(path.read_bytes())
    return Session(path.with_suffix(".model").read_bytes(), told.interface, told.engines)


def _inputs(path: Path) -> list[dict[str, Any]]:
    return [vector.inputs for vector in golden.parse(path.with_suffix(".npz").read_bytes())]


def _unfinished(so_far: dict[str, Any]) -> bool:
    times = so_far.get("times_ns")
    return times is not None and len(times) < CALLS and sum(times) < LONGEST_S * 1e9


def _turn(session: Session, inputs: list[dict[str, Any]], so_far: dict[str, Any]) -> dict[str, Any]:
    engine = {"name": session.engine.name, "version": session.engine.version, "provider": session.engine.provider}
    times = []
    try:
        for call in range(TURN):
            started = time.perf_counter_ns()
            session.predict(inputs[call % len(inputs)])
            times.append(time.perf_counter_ns() - started)
    except EdgekitError as error:
        return {"error": error.as_dict()}
    return {"times_ns": so_far["times_ns"] + times[WARM_UP:], "engine": engine}
