"""The ends of detectors: what the source model computed after the outputs of the artifact, as a list of steps in numpy.

A build cuts the end of a model where no engine of a target has an operator in it, and declares it so. It is run by this
code wherever the artifact is: in evaluation, in the proof and on the device. It holds no code, only names of
``operators`` and numbers.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Dict, Tuple, Union

from edgekit_runtime import fields
from edgekit_runtime.errors import EngineError
from edgekit_runtime.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Value = Union[int, float, str, Tuple[Union[int, float], ...]]
Values = Dict[str, "Array"]

__version__ = "0.1.0"

MOST_STEPS = 512
MOST_NUMBERS = 1 << 18
"""Of all constants together."""
MOST_HELD = 1 << 26
"""Numbers that all the results of one run may come to."""

_FOREIGN = (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError, RuntimeError)
"""What numpy raises for arrays and numbers that an operator cannot take."""


@dataclass(frozen=True)
class Constant:
    """An array of numbers, written out."""

    dtype: str
    shape: tuple[int, ...]
    numbers: tuple[float, ...]

    @cached_property
    def array(self) -> Array:
        """Not to be written to."""
        import numpy as np

        made = np.asarray(self.numbers, self.dtype).reshape(self.shape)
        made.setflags(write=False)
        return made

    def as_dict(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "shape": list(self.shape), "numbers": list(self.numbers)}

    @staticmethod
    def of(document: dict[str, Any]) -> Constant:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        dtype, shape = document["dtype"], tuple(fields.count(size) for size in fields.items(document["shape"]))
        numbers, count = tuple(map(fields.number, fields.items(document["numbers"]))), 1
        for size in shape:
            count *= size
        if dtype not in DTYPES or count != len(numbers):
            raise ValueError(f"a constant {dtype!r} of shape {shape} with {len(numbers)} numbers")
        return Constant(dtype, shape, numbers)


@dataclass(frozen=True)
class Step:
    """One operator; tensors go by names, "" for an input that is left out or an output that nobody takes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Value] = field(default_factory=dict)

    def run(self, values: Values) -> Values:
        """What it gives, by name. Raises: what numpy does."""
        import numpy as np

        from edgekit_postprocess.operators import OPERATORS

        given = OPERATORS[self.op](*(values[name] if name else None for name in self.inputs), **self.attributes)
        several = given if isinstance(given, tuple) else (given,)
        if len(several) < len(self.outputs):
            raise ValueError(f"{len(several)} outputs where {len(self.outputs)} are asked for")
        return {name: np.asarray(array) for name, array in zip(self.outputs, several) if name}

    def check(self) -> None:
        """Raises: ValueError for an operator that there is not, or one of other inputs or attributes."""
        from edgekit_postprocess.operators import OPERATORS

        if self.op not in OPERATORS:
            raise ValueError(f"no operator {self.op[:80]!r}")
        try:
            inspect.signature(OPERATORS[self.op]).bind(*self.inputs, **self.attributes)
        except TypeError as error:
            raise ValueError(f"{self.op}: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        told = {key: list(value) if isinstance(value, tuple) else value for key, value in self.attributes.items()}
        return {"op": self.op, "inputs": list(self.inputs), "outputs": list(self.outputs), "attributes": told}

    @staticmethod
    def of(document: dict[str, Any]) -> Step:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        inputs, outputs = (tuple(map(fields.text, fields.items(document[key]))) for key in ("inputs", "outputs"))
        attributes = {key: _value(value) for key, value in fields.table(document["attributes"]).items()}
        step = Step(fields.text(document["op"]), inputs, outputs, attributes)
        step.check()
        return step


@dataclass(frozen=True)
class Postprocess:
    """``takes`` are the outputs of the artifact, which ``steps``, in order, compute with; ``constants`` by name."""

    takes: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]
    constants: dict[str, Constant] = field(default_factory=dict)

    def run(self, raw: Values) -> Values:
        """All tensors by name, from the artifact's own outputs. Raises: EngineError."""
        import numpy as np

        values = {spec.name: _output(raw, spec.inner) for spec in self.takes}
        values.update((name, constant.array) for name, constant in self.constants.items())
        held = 0
        with np.errstate(all="ignore"):
            for step in self.steps:
                try:
                    given = step.run(values)
                except _FOREIGN as error:
                    raise EngineError(f"the postprocess stops at {step.op}: {str(error)[:200]}") from error
                values.update(given)
                held += sum(array.size for array in given.values())
                if held > MOST_HELD:
                    raise EngineError(f"the postprocess makes more than {MOST_HELD} numbers, at {step.op}")
        return values

    @property
    def gives(self) -> set[str]:
        """The names of all tensors that there are in the end."""
        made = {name for step in self.steps for name in step.outputs if name}
        return made | {spec.name for spec in self.takes} | set(self.constants)

    def as_dict(self) -> dict[str, Any]:
        return {
            "takes": [spec.as_dict() for spec in self.takes],
            "steps": [step.as_dict() for step in self.steps],
            "constants": {name: constant.as_dict() for name, constant in self.constants.items()},
        }

    @staticmethod
    def of(document: dict[str, Any]) -> Postprocess:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        takes = tuple(TensorSpec.of(fields.table(spec)) for spec in fields.items(document["takes"]))
        steps = tuple(Step.of(fields.table(step)) for step in fields.items(document["steps"]))
        told = fields.table(document["constants"])
        constants = {name: Constant.of(fields.table(constant)) for name, constant in told.items()}
        found = Postprocess(takes, steps, constants)
        found.check()
        return found

    def check(self) -> None:
        """Raises: ValueError for too much of it, or a step that takes what there is not yet."""
        count = sum(len(constant.numbers) for constant in self.constants.values())
        if len(self.steps) > MOST_STEPS or count > MOST_NUMBERS:
            raise ValueError(f"a postprocess of {len(self.steps)} steps and {count} constant numbers")
        known = {"", *self.constants, *(spec.name for spec in self.takes)}
        for step in self.steps:
            step.check()
            unknown = sorted(set(step.inputs) - known)
            if unknown:
                raise ValueError(f"{step.op} takes {unknown[0][:80]!r}, which there is not yet")
            known.update(step.outputs)


def _output(raw: Values, name: str) -> Array:
    try:
        return raw[name]
    except KeyError as error:
        raise EngineError(f"the model has no output {error}", f"it has {', '.join(raw)}") from error


def _value(value: object) -> Value:
    if isinstance(value, list):
        return tuple(map(fields.number, value))
    return value if isinstance(value, str) else fields.number(value)
