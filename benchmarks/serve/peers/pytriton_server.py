# mypy: disable-error-code="import-not-found"
"""Triton by PyTriton: MODEL PORT; it takes the two ports after it too."""

import sys
from typing import Any

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serve.peers.engine import SHAPE, load

run = load(sys.argv[1])


def infer(requests: Any) -> list[dict[str, Any]]:
    return [{"y": run(request["x"])} for request in requests]


port, local = int(sys.argv[2]), "127.0.0.1"
places = {"http_address": local, "grpc_address": local, "metrics_address": local}
config = TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2, **places)
with Triton(config=config) as triton:
    triton.bind(
        "net",
        infer,
        inputs=[Tensor(name="x", dtype=np.float32, shape=SHAPE)],
        outputs=[Tensor(name="y", dtype=np.float32, shape=(1, 10))],
        config=ModelConfig(batching=False),
        strict=False,
    )
    triton.serve()
