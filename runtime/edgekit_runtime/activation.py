"""Activation: a release goes live, with all that belongs to it: the audit, its app's service, old releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit_runtime import answers, audit, collect, service, switches

if TYPE_CHECKING:
    from pathlib import Path


def activate(
    home: Path, app: str, digest: str, *, keep: int = collect.KEEP, allow_downgrade: bool = False
) -> dict[str, Any]:
    """Switch current to a proven release; the app's service starts again, and what is older than ``keep`` goes."""
    with audit.told(home, "switch", app=app, digest=digest) as told:
        release = switches.activate(home, app, digest, allow_downgrade=allow_downgrade)
        told.update(signer=release.state.signer)
    started, gone = service.restart(home, app), collect.tidy(home, keep)
    swept = {"collected": list(gone.releases), "bytes_freed": gone.bytes_freed}
    return {**answers.of_release(release), **swept, "restarted": started or None}
