"""What a device answers to messages of Flower: a program for its environment, with its home; prints a JSON object.

The arguments are an app that is live there, and the sizes of its head.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.mod import LocalDpMod
from flwr.supercore.task_identity import TaskIdentity

from edgekit_runtime.errors import EdgekitError
from edgekit_train import clipping, heads
from edgekit_train.flower import client_app, task_of
from edgekit_train.flower_records import record_of, weights_of

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
APP, SIZES = sys.argv[1], [int(size) for size in sys.argv[2:]]
START = heads.initial(SIZES)
CONTEXT = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})


def message(**config: Any) -> Message:
    told = ConfigRecord({"server-round": 3, **{name.replace("_", "-"): value for name, value in config.items()}})
    return Message(RecordDict({"arrays": record_of(START), "config": told}), dst_node_id=7, message_type="train")


def moved(**config: Any) -> dict[str, Any]:
    """How far, and what was told of it; or the error."""
    try:
        return _measured(client_app(APP)(message(**config), CONTEXT))
    except (EdgekitError, ValueError) as error:
        return {"error": str(error)}


def _measured(reply: Message) -> dict[str, Any]:
    after = weights_of(reply.content["arrays"])
    delta = {name: np.subtract(after[name], START[name]) for name in START}
    still = sorted(name for name, array in delta.items() if not array.any())
    told = sorted(reply.content["metrics"])
    return {"norm": clipping.norm(delta), "names": list(after), "still": still, "metrics": told}


def main() -> None:
    task = task_of(message(trainer="bias", delta_clip=1.0, delta_noise=0.5, proximal_mu=0.1, rate=0.01), APP)
    mod = LocalDpMod(clipping_norm=0.5, sensitivity=1e-6, epsilon=10.0, delta=0.1)
    told = {
        "task": [task.trainer, task.clip, task.noise, task.config, task.round, task.device],
        "plain": moved(),
        "bias": moved(trainer="bias"),
        "clip": moved(delta_clip=0.25),
        "noise": moved(delta_clip=0.25, delta_noise=1.0),
        "noise alone": moved(delta_noise=1.0),
        "mod": _measured(client_app(APP, [mod])(message(), CONTEXT)),
        "family": moved(family="sha256:" + "0" * 64),
        "setting": moved(speed=1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
