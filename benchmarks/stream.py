"""What ``Session.stream`` brings over a loop of ``Session.predict``: camera images, resized, through convolutions.

    python benchmarks/stream.py

The two take turns, so that what disturbs the machine disturbs both alike; of each, the best round. ``bound``: the
speed-up if only the slowest stage took time. One thread for the engine; what overlaps needs a second core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.cli.output import print_table
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec

SIDE, CHANNELS, FRAMES, ROUNDS = 128, 16, 40, 15
DEPTHS = (1, 4, 8, 16, 32)
INTERFACE = Interface(
    (TensorSpec("image", "float32", (1, 3, SIDE, SIDE)),),
    (TensorSpec("scores", "float32", (1, CHANNELS)),),
    {"image": Preprocess((SIDE, SIDE), scale=1 / 255, layout="NCHW")},
)


@dataclass(frozen=True)
class Times:
    """Seconds: of all frames by either way, and of a frame in each stage."""

    loop: float
    stream: float
    before: float
    engine: float

    @property
    def bound(self) -> float:
        return (self.before + self.engine) / max(self.before, self.engine)


def main() -> None:
    camera = [np.random.default_rng(seed).integers(0, 256, (720, 1280, 3), np.uint8) for seed in range(8)]
    rows = [row(depth, measured(depth, camera)) for depth in DEPTHS]
    print_table(("layers", "before ms", "engine ms", "loop /s", "stream /s", "speed-up", "bound"), rows)


def row(depth: int, times: Times) -> tuple[str, ...]:
    figures = (times.before * 1e3, times.engine * 1e3, FRAMES / times.loop, FRAMES / times.stream)
    return (
        str(depth),
        *(f"{figure:.2f}" for figure in figures),
        f"{times.loop / times.stream:.2f}",
        f"{times.bound:.2f}",
    )


def measured(depth: int, camera: list[NDArray[np.uint8]]) -> Times:
    with Session(model(depth), INTERFACE, [EngineNeed("onnxruntime")]) as session:
        session.warm_up(camera[0])
        loops, streams = [], []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for frame in frames(camera):
                session.predict(frame)
            between = time.perf_counter()
            for _ in session.stream(frames(camera)):
                pass
            loops.append(between - started)
            streams.append(time.perf_counter() - between)
        feeds = session.interface.feeds(camera[0])
        before = timed(lambda: session.interface.feeds(camera[0]))
        return Times(min(loops), min(streams), before, timed(lambda: session.engine.run(feeds)))


def frames(camera: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    for number in range(FRAMES):
        yield camera[number % len(camera)]


def timed(call: Callable[[], object]) -> float:
    """Median seconds."""
    times = []
    for _ in range(50):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)


def model(depth: int) -> bytes:
    """So many convolutions of 3 × 3, and the mean of each channel."""
    sizes = [3] + [CHANNELS] * depth
    nodes, weights = [], []
    for place, (have, want) in enumerate(pairwise(sizes)):
        weight = np.random.default_rng(place).normal(0, 0.1, (want, have, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{place}"))
        step = {"strides": [2, 2]} if place == 0 else {}
        names = ["image" if place == 0 else f"x{place}", f"w{place}"]
        nodes.append(helper.make_node("Conv", names, [f"x{place + 1}"], pads=[1] * 4, **step))
    nodes.append(helper.make_node("ReduceMean", [f"x{depth}"], ["scores"], axes=[2, 3], keepdims=0))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CHANNELS])
    graph = helper.make_graph(nodes, "convolutions", [image], [scores], weights)
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return made


if __name__ == "__main__":
    main()
