"""What learning costs a device: time and memory of one local epoch, the backbone's features apart from the training.

    python -m benchmarks.federated.device [--samples N]

Needs the pretrained models in ``../shared/models``. Memory is what numpy and Python took beyond what was there before
(tracemalloc), and the process's peak for the features, which the engine keeps for itself.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterable
from statistics import median
from typing import TYPE_CHECKING

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy comes: a figure is of one core

import numpy as np

from edgekit.cli.output import print_table
from edgekit_train import features, heads, normalization
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.hedge import HedgeTrainer
from edgekit_train.normalization import NormalizationTrainer
from edgekit_train.online import OnlineTrainer
from edgekit_train.replay import Bounds, Replay
from tests.runtime import learning

if TYPE_CHECKING:
    from edgekit_train.trainer import Config, Sample, Trainer
    from edgekit_train.update import Weights

ROUNDS = 5
SIZES = ((64, 10), (1280, 1001))
"""Features and classes: ResNet-8 on CIFAR-10, MobileNetV2 on ImageNet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    count: int = parser.parse_args().samples
    _features(count)
    for size, classes in SIZES:
        _epochs(count, size, classes)


def _features(count: int) -> None:
    """Of the int8 ResNet-8, by LiteRT."""
    session, (pictures, labels) = learning.session(), learning.pictures("test", fog=True)
    given = [(x[None], int(y)) for x, y in zip(pictures[:count], labels[:count], strict=True)]
    before = _peak_mib()
    seconds = _seconds(lambda: sum(1 for _ in features.samples(session, given)))
    rows = [("features", f"{1e3 * seconds / len(given):.3f}", f"{seconds:.2f}", f"{_peak_mib() - before:.1f}")]
    print_table(("what", "ms a sample", "s in all", "MiB more"), rows, title=f"int8 ResNet-8, {len(given)} samples")


def _epochs(count: int, size: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((count, size), np.float32), rng.integers(classes, size=count).tolist()
    data: list[Sample] = list(zip(x, y, strict=True))
    rows = []
    for name, trainer, weights, how in _trainers(x, size, classes):
        seconds, mib = _cost(trainer, weights, data, how)
        held = sum(array.nbytes for array in weights.values()) / 2**20
        rows.append((name, f"{1e3 * seconds / count:.3f}", f"{seconds:.3f}", f"{mib:.2f}", f"{held:.2f}"))
    columns = ("one epoch of", "ms a sample", "s in all", "peak MiB", "weights MiB")
    print_table(columns, rows, title=f"{size} features, {classes} classes, {count} samples")


def _trainers(x: np.ndarray, size: int, classes: int) -> Iterable[tuple[str, Trainer, Weights, Config]]:
    once: Config = {"epochs": 1}
    one, two = heads.initial([size, classes]), heads.initial([size, 32, classes])
    yield "softmax regression", HeadTrainer(), one, once
    yield "softmax regression, FedProx", HeadTrainer(), one, {**once, "proximal": 0.1}
    yield "MLP, 32 units", HeadTrainer(32), two, once
    yield "biases", HeadTrainer(only_bias=True), one, once
    start = normalization.moments(x, size)[0]
    yield "moments", NormalizationTrainer(start), start, {}
    yield "online, replay of 8", OnlineTrainer(Replay(Bounds(size, classes))), one, {}
    yield "hedge, 4 heads", HedgeTrainer(), HedgeTrainer().of_sizes(size, classes), {}


def _cost(trainer: Trainer, weights: Weights, data: list[Sample], how: Config) -> tuple[float, float]:
    """Seconds, and the peak of MiB that were taken meanwhile, which is measured apart: it slows down."""
    seconds = _seconds(lambda: trainer.fit(weights, iter(data), how))
    tracemalloc.start()
    trainer.fit(weights, iter(data), how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak / 2**20


def _seconds(work: Callable[[], object]) -> float:
    """The median of ROUNDS, or of one where that takes long."""
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < 1:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
