# mypy: disable-error-code="import-not-found"
"""Flower's own functions on updates in files, in an environment of its own: a task of ``edgekit.passes.child``.

The order has the ``tool``, the folder of the updates as ``source``, the number of ``liars`` and the file for the
``result``. The answer has the ``seconds`` of the function, ``whole_s`` with those of reading, and by how many ``bytes``
memory grew at most, the updates included: Flower's functions take a list of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = list[NDArray[Any]]
Results = list[tuple[Arrays, int]]
Order = dict[str, Any]


def convert(order: Order) -> dict[str, float]:
    tool = TOOLS[order["tool"]]()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begun = time.perf_counter()
    results = [read(path) for path in sorted(Path(order["source"]).glob("*.safetensors"))]
    started = time.perf_counter()
    found = tool(results, order["liars"])
    ended = time.perf_counter()
    grown = memory("VmHWM") - before
    np.savez(order["result"], *found)
    return {"seconds": ended - started, "whole_s": ended - begun, "bytes": grown}


def read(path: Path) -> tuple[Arrays, int]:
    """The arrays of an update by their names, and its examples."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    examples = int(header.pop("__metadata__")["examples"])
    offsets = {name: start + header[name]["data_offsets"][0] for name in sorted(header)}
    arrays = [np.ndarray(header[name]["shape"], np.float32, data, at).copy() for name, at in offsets.items()]
    return arrays, examples


def memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key + ":"))


Tool = Callable[[Results, int], Arrays]


def mean() -> Tool:
    from flwr.server.strategy.aggregate import aggregate

    return lambda results, liars: aggregate(results)


def mean_of_records() -> Tool:
    """As FedAvg of the newer interface has it."""
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    def run(results: Results, liars: int) -> Arrays:
        return aggregate_arrayrecords(_records(results), "num-examples").to_numpy_ndarrays()  # type: ignore[no-any-return]

    return run


def krum_of_records() -> Tool:
    """As Krum of the newer interface has it."""
    from flwr.serverapp.strategy.multikrum import select_multikrum

    def run(results: Results, liars: int) -> Arrays:
        (best,) = select_multikrum(_records(results), liars, 1)
        return best["arrays"].to_numpy_ndarrays()  # type: ignore[no-any-return]

    return run


def _records(results: Results) -> list[Any]:
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

    found = []
    while results:  # no update is there twice
        arrays, examples = results.pop(0)
        record = ArrayRecord({str(number): Array(array) for number, array in enumerate(arrays)})
        found.append(RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": examples})}))
    return found


def median() -> Tool:
    from flwr.server.strategy.aggregate import aggregate_median

    return lambda results, liars: aggregate_median(results)


def trimmed_mean() -> Tool:
    from flwr.server.strategy.aggregate import aggregate_trimmed_avg

    return lambda results, liars: aggregate_trimmed_avg(results, (liars + 0.5) / len(results))


def krum() -> Tool:
    from flwr.server.strategy.aggregate import aggregate_krum

    return lambda results, liars: aggregate_krum(results, liars, 0)


def multi_krum() -> Tool:
    """Of equal examples: the paper's mean is plain, Flower's is weighted by them."""
    from flwr.server.strategy.aggregate import aggregate_krum

    def run(results: Results, liars: int) -> Arrays:
        plain = [(arrays, 1) for arrays, _ in results]
        return aggregate_krum(plain, liars, len(results) - liars - 2)  # type: ignore[no-any-return]

    return run


def bulyan() -> Tool:
    from flwr.server.strategy.aggregate import aggregate_bulyan, aggregate_krum

    return lambda results, liars: aggregate_bulyan(results, liars, aggregate_krum, to_keep=0)


def adaptive(name: str) -> Tool:
    """Three rounds of the same updates, from zeros; all weights of all rounds, one after the other."""
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server import strategy

    def run(results: Results, liars: int) -> Arrays:
        now = [np.zeros_like(array) for array in results[0][0]]
        server = getattr(strategy, name)(initial_parameters=ndarrays_to_parameters(now), **ADAPTIVE)
        found = list[NDArray[Any]]()
        for number in (1, 2, 3):
            moved = [[a + b for a, b in zip(now, delta, strict=True)] for delta, _ in results]
            sent = [
                (None, FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), examples, {}))
                for arrays, (_, examples) in zip(moved, results, strict=True)
            ]
            now = parameters_to_ndarrays(server.aggregate_fit(number, sent, [])[0])
            found += now
        return found

    return run


ADAPTIVE = {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}
TOOLS: dict[str, Callable[[], Tool]] = {
    "mean": mean,
    "mean of records": mean_of_records,
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "krum of records": krum_of_records,
    "multi-krum": multi_krum,
    "bulyan": bulyan,
    "fedadam": lambda: adaptive("FedAdam"),
    "fedyogi": lambda: adaptive("FedYogi"),
}
