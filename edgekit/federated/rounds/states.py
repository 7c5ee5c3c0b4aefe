"""States: what a round begins with and what it ends with, as the bytes of a safetensors file."""

from __future__ import annotations

from edgekit.errors import RoundError
from edgekit.federated.strategy import State
from edgekit_train import tensor_file
from edgekit_train.update import Weights

FORMAT, SCHEMA_VERSION = "edgekit-round", "1"
WEIGHTS, MOMENTS = "weights/", "moments/"


def dump(state: State, strategy: str) -> bytes:
    """The same bytes for the same state. ``strategy``: the name of whose moments it has."""
    tensors = {WEIGHTS + name: array for name, array in state.weights.items()}
    tensors |= {MOMENTS + name: array for name, array in state.moments.items()}
    return tensor_file.dump(tensors, {"format": FORMAT, "schema_version": SCHEMA_VERSION, "strategy": strategy})


def parse(data: bytes) -> tuple[State, str]:
    """The inverse of ``dump``. Raises: RoundError for what it did not write."""
    try:
        tensors, said = tensor_file.parse(data)
    except ValueError as error:
        raise RoundError(
            f"the weights of a round cannot be read: {error}", "start another: edgekit round start"
        ) from error
    if (said.get("format"), said.get("schema_version")) != (FORMAT, SCHEMA_VERSION):
        raise RoundError("these are no weights of a round", "start another: edgekit round start")
    return State(_named(tensors, WEIGHTS), _named(tensors, MOMENTS)), said.get("strategy", "")


def _named(tensors: Weights, prefix: str) -> Weights:
    """In memory of their own."""
    return {name.removeprefix(prefix): array.copy() for name, array in tensors.items() if name.startswith(prefix)}
