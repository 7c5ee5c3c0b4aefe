"""The same for all servers: onnxruntime with one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

SHAPE = (1, 3, 96, 96)
Run = Callable[[Any], Any]


def load(model: str) -> Run:
    """From ``x`` to ``y``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["y"], {"x": x})[0]


def of_bytes(model: str) -> Callable[[bytes], bytes]:
    run = load(model)

    def answer(body: bytes) -> bytes:
        y: bytes = run(np.frombuffer(body, np.float32).reshape(SHAPE)).tobytes()
        return y

    return answer
