"""What is said of replies that do not hold: a program for Flower's environment, which prints a JSON object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from edgekit.errors import RoundError
from edgekit.federated.checks import Limits
from edgekit.federated.flower import FlowerStrategy
from edgekit.federated.flower_replies import medians, update_of
from edgekit.federated.strategies import fedavg, named
from edgekit_train.flower_records import record_of, weights_of

BASE = {"head.0.bias": np.zeros(2, np.float32), "head.0.weight": np.arange(8, dtype=np.float32).reshape(4, 2)}
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # who sends: Flower sets it where apps run
ASKED = Message(RecordDict(), dst_node_id=7, message_type="train")
HONEST = record_of({name: array + np.float32(0.5) for name, array in BASE.items()})
COUNTED = {"num-examples": 10, "loss_after": 0.25, "odd": float("nan"), "list": [1.0, 2.0]}


def sent(arrays: ArrayRecord = HONEST, asked: Message = ASKED, **metrics: Any) -> Message:
    told = {**COUNTED, **{name.replace("_", "-"): value for name, value in metrics.items()}}
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(told)}), reply_to=asked)


def file(array: np.ndarray) -> bytes:
    data = BytesIO()
    np.save(data, array)
    return data.getvalue()


def header(size: int) -> bytes:
    """Of a file with so many numbers, and nothing behind it."""
    data = BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": (size,)})
    return data.getvalue()


def bias(data: bytes, **more: Array) -> ArrayRecord:
    """An honest record but for the bytes of its bias."""
    return ArrayRecord({**HONEST, "head.0.bias": Array("float32", (2,), "numpy.ndarray", data), **more})


def reason(reply: Message) -> tuple[str, str]:
    """The kind of the error, and what it says."""
    try:
        update_of(reply, BASE, Limits(10, 100))
    except RoundError as error:
        return error.code, str(error)
    return "", ""


@dataclass(frozen=True)
class Nodes:
    """Of Flower's grid, what a round asks it."""

    ids: tuple[int, ...]

    def get_node_ids(self) -> list[int]:
        return list(self.ids)


def taking_part(reply: Message) -> int:
    """In a round of krum, which needs five where one may lie, when one of five answers that."""
    strategy: Any = FlowerStrategy(named("krum", {"liars": 1}))
    asked = strategy.configure_train(1, record_of(BASE), ConfigRecord(), Nodes((1, 2, 3, 4, 5)))
    replies = [
        Message(reply.content, reply_to=asked[0]),
        *(Message(sent().content, reply_to=each) for each in asked[1:]),
    ]
    return int(strategy.aggregate_train(1, replies)[1]["devices"])


def come_to(by: dict[int, tuple[float, int]], **settings: float) -> list[float]:
    """The bias after a round: of each node, how far it says to have moved every number, and on how many samples."""
    strategy = FlowerStrategy(fedavg())
    told = ConfigRecord({name.replace("_", "-"): value for name, value in settings.items()})
    asked: Any = strategy.configure_train(1, record_of(BASE), told, Nodes((7, 8, 9)))
    replies = []
    for message in asked:
        moved, count = by[message.metadata.dst_node_id]
        arrays = record_of({name: array + np.float32(moved) for name, array in BASE.items()})
        replies.append(sent(arrays, message, num_examples=count))
    return [float(each) for each in weights_of(strategy.aggregate_train(1, replies)[0])["head.0.bias"]]


GOOD = file(BASE["head.0.bias"])
LIES = {
    "error": Message(Error(1, "Traceback:\n  no samples\x1b[2J"), reply_to=ASKED),
    "no arrays": Message(RecordDict({"metrics": MetricRecord(COUNTED)}), reply_to=ASKED),
    "nan": sent(bias(file(np.full(2, np.nan, np.float32)))),
    "far": sent(bias(file(np.full(2, 1e30, np.float32)))),
    "wide": sent(bias(file(np.zeros(2)))),
    "shape": sent(bias(file(np.zeros(3, np.float32)))),
    "objects": sent(bias(file(np.array([{}, {}], dtype=object)))),
    "vast": sent(bias(header(1 << 40))),
    "header": sent(bias(GOOD.replace(b"(2,)", b"(9,)"))),
    "short": sent(bias(GOOD[:-1])),
    "empty": sent(bias(b"")),
    "names": sent(bias(GOOD, more=Array(np.zeros(1, np.float32)))),
    "missing": sent(ArrayRecord()),
    "examples": sent(num_examples=1 << 40),
    "none": sent(num_examples=0),
    "part": sent(num_examples=1.5),
    "list": sent(num_examples=[10]),
    "figures": sent(**{f"m{number}": 1.0 for number in range(200)}),
}


def main() -> None:
    good = update_of(sent(), BASE, Limits(10, 100))
    fortran = weights_of(record_of({"w": np.asfortranarray(BASE["head.0.weight"])}))["w"]
    told = {
        "lies": {name: reason(reply) for name, reply in LIES.items()},
        "taking part": {name: taking_part(LIES[name]) for name in ("wide", "none")},
        "delta": {name: array.tolist() for name, array in good.delta.items()},
        "examples": good.examples,
        "metrics": good.metrics,
        "fortran": bool((fortran == BASE["head.0.weight"]).all()),
        "scalar": weights_of(record_of({"s": np.array(3, np.float32)}))["s"].tolist(),
        "by examples": come_to({7: (0.1, 10), 8: (0.1, 10), 9: (-0.3, 60)}),
        "clipped": come_to({7: (0.1, 10), 8: (0.1, 10), 9: (-0.3, 100_000)}, delta_clip=1.0),
        "too long": come_to({7: (0.1, 10), 8: (0.1, 10), 9: (-0.4, 10)}, delta_clip=1.0),
        "medians": medians([{"a": 1.0, "b": 5.0}, {"a": 3.0}, {"a": 1e9}]),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
