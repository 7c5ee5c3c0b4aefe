"""Dialogue: what a host and this device say to each other in a push ("What goes over in a push",
docs/reference/formats.md). A host that has heard enough ends this device's input.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import edgekit_runtime
from edgekit_runtime import (
    activation,
    answers,
    attempts,
    audit,
    collect,
    fields,
    host,
    probe,
    receiving,
    releases,
    similar,
)
from edgekit_runtime.bundle import LARGE, Descriptor
from edgekit_runtime.errors import DeviceError

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.releases import Release


def push(home: Path, app: str) -> dict[str, Any]:
    """Tell what this device is and serves, then what it lacks of a bundle; take that in, and go live if that is wanted.

    The release as it is then; nothing for a host that wants no more.
    """
    live = answers.of_app(home, app) if app in releases.apps(home) else None
    host.tell({"runtime": edgekit_runtime.__version__, "app": live, "facts": probe.probe()})
    asked = host.line()
    if asked is None:
        return {}
    place, lacking = _lacking(home, asked)
    try:
        host.tell(lacking)
        order = host.line()
        return _done(home, place, order) if order is not None else {}
    finally:
        with contextlib.suppress(OSError):  # with something in it, the next push goes on with that
            place.rmdir()


def _done(home: Path, place: Path, order: dict[str, Any]) -> dict[str, Any]:
    older = order.get("allow_downgrade") is True
    release = _installed(home, place, receiving.Order.of(order), older)
    return _live(home, release, older) if order.get("live") is True else answers.of_release(release)


def _lacking(home: Path, asked: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """A place for what is to come, and which blobs are; ``kept``: what is there already; ``bases``: to build upon."""
    documents = [fields.table(each) for each in fields.items(asked["blobs"])]
    known = [fields.text(each) for each in fields.items(asked.get("known", []))]
    blobs = [Descriptor.of(document, LARGE) for document in documents]
    try:
        place, lacking = releases.missing(home, blobs)
    except releases.NoRoom:  # without the release that is kept for convenience there may be
        collect.tidy(home, collect.LEAST)
        place, lacking = releases.missing(home, blobs)
    kept = [each for each in (receiving.kept(place, blob) for blob in lacking) if each]
    names = [blob.digest for blob in lacking]
    return place, {"missing": names, "kept": kept, "bases": similar.bases(home, lacking, known)}


def _installed(home: Path, place: Path, order: receiving.Order, older: bool) -> Release:
    with audit.told(home, "install", digest=order.digest) as told:
        signer = receiving.receive(home, place, order, sys.stdin.buffer)
        release = releases.install(home, place, order.digest, order.signature, signer=signer, allow_downgrade=older)
        told.update(app=release.bundle.manifest.app, signer=signer)
    return release


def _live(home: Path, release: Release, older: bool) -> dict[str, Any]:
    proven = attempts.settle(home, release)
    if not host.listens():
        raise DeviceError("the host that pushed has gone", "push it again, and the release goes live")
    return activation.activate(home, proven.bundle.manifest.app, release.digest, allow_downgrade=older)
