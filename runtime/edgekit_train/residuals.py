"""Residual: what compression has left out of a device's updates, for the next one of the same kind and for no other.

It goes out as it is, neither clipped nor noised again. So its kind is the family and the trainer that it was learned
by, and the clip and the noise that hide it: the one with which it may go says the same of all four.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit_train import tensor_file

if TYPE_CHECKING:
    from edgekit_train.task import Task
    from edgekit_train.update import Weights


def dump(residual: Weights, task: Task) -> bytes:
    """``task``: whose update has left it out. The kind stands in the metadata."""
    return tensor_file.dump(residual, _kind(task))


def parse(data: bytes, task: Task) -> Weights:
    """{} for one of another kind than the update of this task will be. Raises: ValueError for what is no such file."""
    residual, kind = tensor_file.parse(data)
    return residual if kind == _kind(task) else {}


def file_name(trainer: str) -> str:
    """Each trainer of an app has a file of its own: one that is asked now and then costs the others nothing."""
    return f"residual-{trainer}.safetensors"


def _kind(task: Task) -> dict[str, str]:
    """A clip without noise of the device's own hides nothing, and may be another from round to round."""
    limits = {"clip": task.clip, "noise": task.noise} if task.noise is not None else {}
    told = {name: repr(float(limit)) for name, limit in limits.items() if limit is not None}
    return {"family": task.family, "trainer": task.trainer, **told}
