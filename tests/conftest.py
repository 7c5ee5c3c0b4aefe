"""For all tests."""

from __future__ import annotations

import tests.lab.waiting  # noqa: F401 — for what it does to onnxruntime
