"""What the store knows of how fast releases ran on devices."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.advice.experience import Run
from edgekit.advice.serving import Served
from edgekit.advice.serving_store import Servings
from edgekit.store import CALL, Slice, Store
from edgekit_runtime.histogram import summed

DAY_S = 86400
LOOK_BACK_S = 60 * DAY_S
INFER = "infer"


def runs(store: Store, devices: Sequence[str], app: str, now_s: float) -> list[Run]:
    """Of an app, in the last two months; not what ran in an emulator. Raises: EdgekitError."""
    stages, since = (CALL, INFER), now_s - LOOK_BACK_S
    slices = store.slices(since, now_s + DAY_S, seconds=DAY_S, app=app, devices=devices, stages=stages)
    known: dict[tuple[str, str], list[Slice]] = {}
    for each in slices:
        if not each.emulated:
            known.setdefault((each.device, each.release), []).append(each)
    servings = [each for each in Servings(store).all(devices) if each.app == app]
    return [_run(each, known[key]) for each in servings if (key := (each.device, each.release)) in known]


def apps(store: Store, devices: Sequence[str]) -> list[str]:
    """What devices have served. Raises: EdgekitError."""
    return sorted({each.app for each in Servings(store).all(devices)})


def _run(served: Served, slices: Sequence[Slice]) -> Run:
    """By the inference alone where that is known: how long a call queues says nothing of an engine."""
    stage = INFER if any(each.stage == INFER for each in slices) else CALL
    hot = [each.conditions["throttled"][1] for each in slices if "throttled" in each.conditions]
    return Run(
        served.device,
        served.target,
        served.release,
        served.format,
        served.precision,
        served.engine,
        served.threads,
        summed(each.buckets for each in slices if each.stage == stage),
        served.source,
        served.sequence,
        served.host_p50_ms,
        served.base_p50_ms,
        sum(hot) / len(hot) if hot else 0.0,
        served.live,
    )
