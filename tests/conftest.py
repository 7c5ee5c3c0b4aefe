"""For all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

import tests.lab.waiting  # noqa: F401 — for what it does to onnxruntime

settings.register_profile(
    "any-speed",
    settings(),
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("any-speed")  # what an example takes is the machine's: no law of a format speaks of seconds
