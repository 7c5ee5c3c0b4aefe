"""Flower: learning as a ClientApp, so that a SuperNode does what a device does in a round over SSH.

Needs ``flwr``: ``edgekit-train[flower]``, Python 3.11 or newer. What it answers is what Flower's own strategies take:
the weights after training, and how many samples they were learned from. Flower's mods work on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from edgekit_runtime import releases
from edgekit_runtime.home import default_home
from edgekit_train import family, learning, update
from edgekit_train.flower_records import ARRAYS, CLIP, CONFIG, EXAMPLES, METRICS, NOISE, ROUND, record_of, weights_of
from edgekit_train.task import Task
from edgekit_train.trainer import added

if TYPE_CHECKING:
    from flwr.clientapp.typing import Mod

    from edgekit_train.update import Update

TASK = {"trainer": "trainer", "family": "family", CLIP: "clip", NOISE: "noise"}
"""Settings of a message that are fields of a task."""
RENAMED = {"proximal-mu": "proximal"}
"""Of Flower's FedProx."""
NOT_OURS = (ROUND, "clipping_norm")
"""The number that every strategy of Flower's gives, and what it gives its mods."""


def client_app(app: str, mods: Sequence[Mod] | None = None) -> ClientApp:
    """A ClientApp that learns from the samples of an installed app. What goes wrong is answered as an error."""
    flower = ClientApp(mods=list(mods or []))
    flower.train()(lambda message, context: answered(message, app))
    return flower


def answered(message: Message, app: str) -> Message:
    """The reply to a message of weights and settings. Raises: as ``learning.learn``; ValueError for other weights."""
    task = task_of(message, app)
    learned = learning.learn(default_home(), task, {}).update
    return reply(message, task, update.parse(learned, len(learned)))


def task_of(message: Message, app: str) -> Task:
    """Of the family of the release that is live, where the message names none. Raises: NotInstalled, ValueError."""
    told: dict[str, Any] = dict(message.content[CONFIG])
    fields = {TASK[name]: told.pop(name) for name in TASK if name in told}
    live = releases.current(default_home(), app)
    fields.setdefault("family", family.of(live.bundle.manifest, live.digest))
    config = {RENAMED.get(name, name): value for name, value in told.items() if name not in NOT_OURS}
    run, device = f"{message.metadata.run_id:032x}", f"{message.metadata.dst_node_id}"
    return Task(app, round=run, device=device, config=config, weights=weights_of(message.content[ARRAYS]), **fields)


def reply(message: Message, task: Task, learned: Update) -> Message:
    """The weights in the order in which they came, which Flower's mods need, and the figures."""
    arrays = record_of(added(task.weights, learned.delta))
    metrics = MetricRecord({EXAMPLES: learned.examples, **learned.metrics})
    return Message(RecordDict({ARRAYS: arrays, METRICS: metrics}), reply_to=message)
