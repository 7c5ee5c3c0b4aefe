"""Errand: what is done for one device of a rollout, wherever it runs: from plain values to plain values.

Nothing is raised for what a device, the way to it or its bundle does: that is an outcome like others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgekit import device as devices
from edgekit import push as pushing
from edgekit import reports, transports
from edgekit.errors import BundleError, ConnectError, DeviceError, EdgekitError, HostKeyError
from edgekit.fanout import reached
from edgekit.fleet import Device
from edgekit.hooks import FOLDER
from edgekit.policy import Calls, Look
from edgekit.push import Parcel, Pushed
from edgekit.transports import Transport
from edgekit_runtime.histogram import merge, summed
from edgekit_runtime.windows import Window

PUSHED, FAILED, OFFLINE, WITHDRAWN = "pushed", "failed", "offline", "withdrawn"


@dataclass(frozen=True)
class Terms:
    """What a person allows, for each device."""

    accept_new_host_key: bool = False
    allow_downgrade: bool = False


@dataclass(frozen=True)
class Errand:
    """A device, and the release of an app that it is to have: the digest, and the folder of the bundle.

    ``hooks``: the folder of the project's hooks, which run where the work for the device does. ``previous``: what was
    live before, once that is known.
    """

    device: Device
    app: str
    release: str
    folder: str
    terms: Terms = Terms()
    hooks: str = str(FOLDER)
    previous: str | None = None


@dataclass(frozen=True)
class Outcome:
    """``facts`` as `--json` has them of a device, or the error; ``offline``: no connection, or nobody let us in."""

    state: str
    facts: dict[str, Any] | None = None
    error: dict[str, str | None] | None = None


def facts(pushed: Pushed) -> dict[str, Any]:
    """What is told and kept of a push."""
    shown = ("vectors", "max_abs_error", "agreement", "engine", "provider")
    proof = {**{key: pushed.proof[key] for key in shown}, "share": pushed.proof.get("share")}
    sizes = {"bytes_sent": pushed.bytes_sent, "bytes_total": pushed.bytes_total, "seconds": pushed.seconds}
    release = {"release": pushed.release, "state": pushed.state, "previous": pushed.previous}
    return {**release, **sizes, "proof": proof, "notes": list(pushed.notes)}


def deliver(errand: Errand) -> Outcome:
    """Push the release."""

    def work(transport: Transport) -> dict[str, Any]:
        parcel = _parcel(errand.folder, errand.release)
        older, hooks = errand.terms.allow_downgrade, Path(errand.hooks)
        return facts(pushing.push(parcel, errand.device, transport, _unheard, allow_downgrade=older, hooks=hooks))

    return _tried(errand, work, PUSHED)


def _unheard(line: str) -> None:
    """Nobody listens to one device of many: what matters is in its outcome."""


def withdraw(errand: Errand) -> Outcome:
    """Take the device back to the release before, from the errand's; one that went back by itself stays there."""

    def work(transport: Transport) -> dict[str, Any]:
        live = _live(devices.app(transport, errand.app))
        if live and live == errand.previous:
            return {"release": live}
        if live != errand.release:
            raise DeviceError(f"{errand.release[:19]} is not live there any more", "edgekit status")
        release = pushing.rollback(errand.app, errand.device, transport, _unheard, hooks=Path(errand.hooks))
        return {"release": release["digest"]}

    return _tried(errand, work, WITHDRAWN)


def look(errand: Errand) -> Look:
    """What has become of the release since it was pushed."""
    try:
        with reached(errand.device, _options(errand)) as transport:
            app = devices.app(transport, errand.app)
            windows = list(reports.windows(transport, errand.app))
    except EdgekitError as error:
        return Look(None, silent=error.message)
    return Look(
        _live(app),
        left=_left(app, errand.release),
        now=_calls(windows, errand.release),
        before=_calls(windows, errand.previous or (app.get("previous") or {}).get("digest")),
    )


def _tried(errand: Errand, work: Callable[[Transport], dict[str, Any]], state: str) -> Outcome:
    met = False
    try:
        with reached(errand.device, _options(errand)) as transport:
            met = True
            return Outcome(state, work(transport))
    except EdgekitError as error:
        away = isinstance(error, ConnectError) and not isinstance(error, HostKeyError) and not met
        return Outcome(OFFLINE if away else FAILED, error=error.as_dict())


def _options(errand: Errand) -> transports.Options:
    return transports.Options(accept_new_host_key=errand.terms.accept_new_host_key)


@lru_cache(maxsize=16)
def _parcel(folder: str, release: str) -> Parcel:
    """The bundle, opened once for all devices of its target. Raises: BundleError when it is another one by now."""
    parcel = pushing.open_parcel(Path(folder))
    if parcel.bundle.digest != release:
        other = f"{folder}: the bundle was built anew: it is {parcel.bundle.digest[:19]}, not {release[:19]}"
        raise BundleError(other, "start a new rollout: edgekit push")
    return parcel


def _live(app: dict[str, Any]) -> str | None:
    current = app.get("current")
    return str(current["digest"]) if current else None


def _left(app: dict[str, Any], release: str) -> str | None:
    """Why the device went back from a release, where that was the last thing it went back from."""
    left = app.get("left")
    return str(left["reason"]) if left and left["release"] == release != _live(app) else None


def _calls(windows: list[Window], release: str | None) -> Calls:
    """What was counted of a release; of calls in an emulator how many, but not how long they took."""
    own = [window for window in windows if window.release == release]
    buckets, errors = merge(own), summed(window.errors for window in own)
    return Calls({0: sum(buckets.values())} if any(window.emulated for window in own) else buckets, errors)
