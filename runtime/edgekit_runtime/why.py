"""Why: what a device tells of a trial that goes on, and of how an app came to where it is. Values for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgekit_runtime import blackbox, probation, releases, trial
from edgekit_runtime.histogram import percentile
from edgekit_runtime.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.releases import Release


def trial_of(home: Path, release: Release) -> dict[str, Any] | None:
    """What a release on trial has shown so far, what ends it, and what is wrong; None for any other."""
    if release.state.name != "trial":
        return None
    policy = trial.policy(release.bundle.manifest.budget)
    seen = probation.facts(home, release)
    decision = trial.decide(seen, policy)
    facts = {"failed_starts": seen.failed_starts, "calls": seen.calls, "errors": seen.errors, "seconds": seen.seconds}
    wrong = {"code": decision.code, "reason": decision.reason}
    return {"until": str(policy), **facts, "p95_ms": _number(seen.p95_ms), **wrong}


def left(home: Path, app: str) -> dict[str, Any] | None:
    """The release that this app went back from last, and why; None when it never did."""
    for event in reversed(blackbox.read(home, app)):
        if event.what == "rolled_back":
            return {"release": event.release, "code": event.code, "reason": event.reason, "at": event.at}
    return None


def latency(home: Path, app: str) -> dict[str, Any] | None:
    """The last window of the release that serves; None when nothing called it."""
    digest = releases.pointed(home, app, "current")
    windows = [window for window in Spool(home / "reports" / app).windows() if window.release == digest]
    if not windows:
        return None
    last = max(windows, key=lambda window: window.end_s)
    buckets = {} if last.emulated else last.buckets  # an emulator's times are no latencies
    p50, p95 = (_number(percentile(buckets, share) / 1e6) for share in (0.5, 0.95))
    return {"calls": last.count, "errors": last.errors, "p50_ms": p50, "p95_ms": p95, "end_s": last.end_s}


def events(home: Path, app: str) -> list[dict[str, Any]]:
    """What the black box holds, oldest first."""
    return [asdict(event) for event in blackbox.read(home, app)]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
