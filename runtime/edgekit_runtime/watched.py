"""Watched: what ``edgekit-watch``, a distribution of its own, sees beside serving; nothing where it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit_runtime.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from edgekit_runtime.bundle import Bundle
    from edgekit_watch.quality import Quality


def conditions() -> Callable[[], dict[str, float]]:
    """How the machine is whenever it is asked, as ``edgekit_watch.sensors`` tells it."""
    try:
        from edgekit_watch.sensors import Sensors
    except ImportError:
        return dict
    return Sensors().read


def quality(bundle: Bundle) -> Quality | None:
    """What watches the inputs and outputs of a bundle that has a calibration profile."""
    try:
        from edgekit_watch import quality
    except ImportError:
        return None
    return quality.of_bundle(bundle)


def bench(home: Path, app: str) -> dict[str, Any]:
    """As ``edgekit_watch.bench``. Raises: DeviceError where it is missing."""
    try:
        from edgekit_watch.bench import bench
    except ImportError as error:
        raise DeviceError("edgekit-watch is not installed here", "'edgekit device setup' brings it") from error
    return bench(home, app)
