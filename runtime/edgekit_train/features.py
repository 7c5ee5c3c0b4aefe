"""Features of samples: what the backbone of a bundle's model, int8 as it serves, makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np

from edgekit_runtime.errors import EngineError, InvalidInput

if TYPE_CHECKING:
    from edgekit_runtime.features import Features
    from edgekit_runtime.session import Session
    from edgekit_train.trainer import Inputs, Sample

    Array = np.ndarray[Any, Any]


def declared(session: Session) -> Features:
    """Raises: InvalidInput for a bundle that declares none."""
    if session.interface.features is None:
        raise InvalidInput("the bundle declares no features", "build it with features = true in edgekit.toml")
    return session.interface.features


def shape(session: Session) -> tuple[int, int]:
    """Of a head: features of a sample, and classes. Raises: InvalidInput where the bundle does not tell."""
    return declared(session).size, classes(session)


def classes(session: Session) -> int:
    """Numbers of the first output. Raises: InvalidInput where the bundle does not tell."""
    output = session.interface.outputs[0]
    told = output.shape[-1] if output.shape else None
    if not told:
        raise InvalidInput(f"output {output} does not tell how many classes there are", "fix its size in the model")
    return told


def of(session: Session, inputs: Inputs) -> Array:
    """float32 [samples, size]; ``inputs`` as ``predict`` takes them. The run is not counted as a call.

    Raises: InvalidInput, EngineError.
    """
    return rows(declared(session), session.engine.run(session.interface.feeds(inputs)))


def rows(told: Features, raw: dict[str, Array]) -> Array:
    """float32 [samples, size], of what the engine gave. Raises: EngineError."""
    if told.tensor not in raw or raw[told.tensor].size % told.size:
        raise EngineError(f"the artifact gives no features {told.tensor!r}", "build and push the bundle again")
    whole: Array = raw[told.tensor].reshape(-1, told.size).astype(np.float32)
    return (whole - np.float32(told.zero_point)) * np.float32(told.scale)


def samples(session: Session, data: Iterable[tuple[Inputs, int]]) -> Iterator[Sample]:
    """The same samples by their features, one at a time."""
    for x, y in data:
        yield of(session, x)[0], y
