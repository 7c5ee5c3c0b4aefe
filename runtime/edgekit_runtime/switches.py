"""Switches: which release of an app is current, and which one is the way back.

A release that is activated for the first time is on trial; it becomes the way back of the next one only once it is
confirmed. Each switch takes the device's lock, moves ``current`` by one rename, and is told in the black box.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from edgekit_runtime import admission, audit, blackbox, durable, logbook, states, trust, verify
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.home import app_folder, locked
from edgekit_runtime.releases import Release, current, find, folder_of, mark, pointed, signature

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.trial import Decision

BY_HAND, BY_RULE = "by_hand", "by_rule"


def activate(home: Path, app: str, digest: str, *, allow_downgrade: bool = False) -> Release:
    """Switch ``current`` to a proven release, on trial unless it has been confirmed before; one that serves stays so.

    Raises: NotInstalled, DeviceError, BundleError and its kin for damaged blobs, or what is no more let in here.
    """
    with locked(home, f"the switch to {digest[:19]}"):
        release = find(home, app, digest)
        if release.state.name not in ("proven", *states.SERVED):
            raise DeviceError(f"{app}: release {digest[:19]} is {release.state.name}, not proven", "prove it first")
        release.bundle.check()
        before = pointed(home, app, "current")
        if before == digest and release.state.name in states.SERVED:
            return release
        verify.verify(digest, signature(release), trust.file(home))
        admission.let_serve(home, release.bundle, allow_downgrade=allow_downgrade)
        if before not in ("", digest) and states.read(folder_of(home, app, before)).name == "good":
            _point(home, app, "previous", before)
        if release.state.name != "good":
            logbook.clear(release.folder)
            release = mark(release, "trial")  # before it serves: one that serves is never without its counter
        _point(home, app, "current", digest)
        blackbox.note(home, app, blackbox.event("activated", digest, facts={"before": before}))
        return release


def confirm(home: Path, app: str, digest: str, code: str = BY_HAND) -> Release:
    """A current release on trial becomes good; one that is good is. Raises: NotInstalled, DeviceError, BundleError."""
    with locked(home, f"the confirmation of {digest[:19]}"):
        release = find(home, app, digest)
        if release.state.name == "trial" and pointed(home, app, "current") == digest:
            release = mark(release, "good")
            blackbox.note(home, app, blackbox.event("confirmed", digest, code=code))
        if release.state.name != "good":
            raise DeviceError(f"{app}: release {digest[:19]} is {release.state.name}, not on trial", "push it")
        return release


def rollback(home: Path, app: str, reason: str, *, code: str = BY_HAND, leaving: str = "") -> Release:
    """Switch back to ``previous``; the release that is left, however damaged, becomes bad.

    ``leaving``: the only release that it is to leave, "" for any.
    Raises: NotInstalled, DeviceError, BundleError when ``previous`` is damaged.
    """
    with locked(home, f"a rollback of {app}"):
        if leaving not in ("", pointed(home, app, "current")):
            raise DeviceError(f"{app}: {leaving[:19]} is not live here any more", "edgekit status")
        return _go_back(home, app, code, reason)


def leave(home: Path, folder: Path, seen: str, why: Decision) -> Release:
    """The same for the release in a folder that fails its trial, or is live and bad after a cut; what is current then.

    ``seen``: the state that was decided on; nothing is done when the release is in another one, or not current any
    more. Raises: as rollback.
    """
    app = folder.parents[1].name
    with locked(home, f"the end of a trial of {app}"):
        if pointed(home, app, "current") != f"sha256:{folder.name}" or states.read(folder).name != seen:
            return current(home, app)
        with audit.told(home, "rollback", app=app, code=why.code, reason=why.reason) as told:
            back = _go_back(home, app, why.code, why.reason)
            told.update(digest=back.digest, signer=back.state.signer)
        return back


def way_back(home: Path, app: str) -> bool:
    """Whether there is a confirmed release to go back to."""
    digest = pointed(home, app, "previous")
    other = digest not in ("", pointed(home, app, "current"))
    return other and states.read(folder_of(home, app, digest)).name == "good"


def _go_back(home: Path, app: str, code: str, reason: str) -> Release:
    left = pointed(home, app, "current") or current(home, app).digest
    digest = pointed(home, app, "previous")
    if digest in ("", left):
        raise DeviceError(f"{app}: there is no previous release to go back to", "push the one you want")
    release = find(home, app, digest)
    if release.state.name == "bad":
        raise DeviceError(f"{app}: the previous release is marked bad ({release.state.reason})", "push a good one")
    release.bundle.check()
    folder = folder_of(home, app, left)
    with contextlib.suppress(OSError):  # a full disk must not keep it alive
        states.write(folder, states.read(folder), "bad", reason=reason, code=code)
    _point(home, app, "current", digest)
    blackbox.note(home, app, blackbox.event("rolled_back", left, code=code, reason=reason, facts={"to": digest}))
    return release


def _point(home: Path, app: str, pointer: str, digest: str) -> None:
    durable.point(app_folder(home, app) / pointer, f"releases/{digest.partition(':')[2]}")
