"""Answers: how apps and releases are told to a host (docs/reference/json.md)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgekit_runtime import admission, home, releases, serving
from edgekit_runtime import why as reasons
from edgekit_runtime.errors import EdgekitError

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.releases import Release


def of_app(place: Path, name: str) -> dict[str, Any]:
    """An app by its name: its two releases, the highest sequence that was live, why the device left a release last."""
    pointers = {pointer: _pointed(place, name, pointer) for pointer in ("current", "previous")}
    kept = {"highest": admission.highest(place, name), "left": reasons.left(place, name)}
    return {"app": name, **kept, **pointers}


def _pointed(place: Path, name: str, pointer: str) -> dict[str, Any] | None:
    digest = releases.pointed(place, name, pointer)
    if not digest:
        return None
    try:
        release = releases.find(place, name, digest)
        release.bundle.check()
    except EdgekitError as error:
        return {"digest": digest, "error": error.as_dict()}
    return of_release(release)


def of_release(release: Release) -> dict[str, Any]:
    """A release with what became of it, how its trial goes, and why it is degraded, if it is."""
    m = release.bundle.manifest
    facts = {"app": m.app, "version": m.version, "sequence": m.sequence, "target": m.target}
    model = {"format": m.format, "precision": m.precision}
    place, state = home.default_home(), asdict(release.state)
    now = {"trial": reasons.trial_of(place, release), "degraded": serving.told(place, release) or None}
    return {"digest": release.digest, **facts, **model, "state": state, **now}
