"""How threads of onnxruntime wait in tests: asleep.

By default they spin until the next call: on a machine whose cores all have a test to run, that is a third of a build's
seconds, taken from the other tests. What is computed, and with how many threads, is the same.
"""

from __future__ import annotations

from typing import Any

import onnxruntime


class Asleep(onnxruntime.SessionOptions):  # type: ignore[misc]
    """The options of onnxruntime, with one other default."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.add_session_config_entry("session.intra_op.allow_spinning", "0")


onnxruntime.SessionOptions = Asleep
