"""Timing: models that are not installed, side by side on this machine, each loaded and run as it would be served."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgekit_runtime import golden, manifest
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Inputs = Sequence[dict[str, Any]]

TURN, WARM_UP = 16, 4
"""Calls that a model makes in its turn, and as many of them are not timed: the threads of the one before it are still
awake, and the caches are its."""
CALLS = 200
LONGEST_S = 20.0
"""A model makes its timed calls in this, or as many of them as there is time for."""


def time_models(folder: Path) -> dict[str, Any]:
    """By name, for each NAME.json (a manifest), NAME.model and NAME.npz (golden vectors) in a folder: nanoseconds of
    each ``predict``, and the engine that ran it; or the error that it met.
    """
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        sessions, inputs = {}, {}
        for path in sorted(folder.glob("*.json")):
            found[path.stem] = {}
            try:
                sessions[path.stem], inputs[path.stem] = stack.enter_context(_session(path)), _inputs(path)
            except EdgekitError as error:
                found[path.stem] = {"error": error.as_dict()}
        timed = in_turns(sessions, inputs)
        for name, session in sessions.items():
            found[name] = _told(session, timed[name])
    return found


def in_turns(
    sessions: Mapping[str, Session], inputs: Mapping[str, Inputs], longest_s: float = LONGEST_S
) -> dict[str, list[int] | EdgekitError]:
    """By name, the nanoseconds of timed calls of each session, or the error that it met.

    Sessions take turns of a few calls, so that what disturbs this machine disturbs all alike.
    """
    found: dict[str, list[int] | EdgekitError] = {name: [] for name in sessions}
    while waiting := [name for name in sessions if _unfinished(found[name], longest_s)]:
        for name in waiting:
            so_far = found[name]
            try:
                found[name] = [*so_far, *_turn(sessions[name], inputs[name])]  # type: ignore[misc]
            except EdgekitError as error:
                found[name] = error
    return found


def _told(session: Session, times: list[int] | EdgekitError) -> dict[str, Any]:
    if isinstance(times, EdgekitError):
        return {"error": times.as_dict()}
    engine = {"name": session.engine.name, "version": session.engine.version, "provider": session.engine.provider}
    return {"times_ns": times, "engine": engine}


def _session(path: Path) -> Session:
    told = manifest.parse(path.read_bytes())
    return Session(path.with_suffix(".model").read_bytes(), told.interface, told.engines)


def _inputs(path: Path) -> list[dict[str, Any]]:
    return [vector.inputs for vector in golden.parse(path.with_suffix(".npz").read_bytes())]


def _unfinished(so_far: list[int] | EdgekitError, longest_s: float) -> bool:
    return not isinstance(so_far, EdgekitError) and len(so_far) < CALLS and sum(so_far) < longest_s * 1e9


def _turn(session: Session, inputs: Inputs) -> list[int]:
    times = []
    for call in range(TURN):
        started = time.perf_counter_ns()
        session.predict(inputs[call % len(inputs)])
        times.append(time.perf_counter_ns() - started)
    return times[WARM_UP:]
