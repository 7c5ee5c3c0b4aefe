"""References: what a framework itself gives for some inputs, as its child writes it, to hold conversions against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.model import Model
from edgekit.passes.child import Child
from edgekit.passes.layers import Layer, read_layers
from edgekit.passes.proof import prove, read_probes

Run = Callable[[Sequence[Any]], Sequence[Any]]


def prove_by(child: Child, order: dict[str, Any], converted: Model) -> None:
    """By the probes that the child wrote when it converted. Raises: ConversionError, EngineError."""
    prove(converted, read_probes(Path(order["probe"])), lambda index: layers_by(child, order, index))


def layers_by(child: Child, order: dict[str, Any], index: int) -> list[Layer]:
    """What the layers of the source give for the probe of a number, from the child that can load it."""
    path = Path(f"{order['result']}.layers.npz")
    child.answer({**order, "layers": index, "probe": str(path)})
    return read_layers(path)


def write_probes(path: str, inputs: Sequence[Sequence[Any]], run: Run) -> None:
    """An .npz of inputs with what the source gives for them, as ``proof.read_probes`` takes it."""
    import numpy as np

    arrays: dict[str, Any] = {}
    for index, given in enumerate(inputs):
        arrays.update({f"in.{index}.{i}": array for i, array in enumerate(given)})
        arrays.update({f"out.{index}.{o}": np.asarray(array) for o, array in enumerate(run(given))})
    np.savez(path, **arrays)


def write_layers(path: str, values: Mapping[str, Any], inputs: Mapping[str, Sequence[str]]) -> None:
    """An .npz of what the layers of the source give, in their order, as ``layers.read_layers`` takes it."""
    import numpy as np

    arrays = {f"value.{i}": np.asarray(value) for i, value in enumerate(values.values())}
    arrays["names"] = np.array(list(values))
    arrays["inputs"] = np.array(["\n".join(inputs[name]) for name in values])
    np.savez(path, **arrays)  # type: ignore[arg-type]
