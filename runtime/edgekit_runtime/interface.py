"""Interface: what a model takes and gives, in the words of its source; and how that becomes the artifact's tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.ends import brought
from edgekit_runtime.errors import EngineError, InvalidInput
from edgekit_runtime.features import Features
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from edgekit_postprocess import Postprocess

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Interface:
    """``inputs`` and ``outputs`` of the model itself, in order; ``preprocess`` by input name, where declared, and
    ``agreement`` by output name: when two answers in it say the same. ``postprocess``, where there is one, makes the
    outputs of those of the artifact. ``features``: what training on the device starts from, where the build asked.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: dict[str, Preprocess] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)
    postprocess: Postprocess | None = None
    features: Features | None = None

    @property
    def has_ends(self) -> bool:
        """Whether it holds the end of a detector, computed or judged by boxes: ``edgekit_postprocess`` does both."""
        return self.postprocess is not None or any(how.by == "boxes" for how in self.agreement.values())

    @cached_property
    def accepts(self) -> dict[str, TensorSpec]:
        """What ``predict`` takes, by name: the raw image where preprocessing is declared."""
        steps = self.preprocess
        return {s.name: steps[s.name].accepts(s) if s.name in steps else s for s in self.inputs}

    @cached_property
    def _ways_in(self) -> tuple[tuple[str, TensorSpec, TensorSpec, Preprocess | None], ...]:
        """Of each input, looked up once: processors have forgotten this code after each inference."""
        return tuple((s.inner, s, self.accepts[s.name], self.preprocess.get(s.name)) for s in self.inputs)

    @cached_property
    def _ways_out(self) -> tuple[tuple[str, str], ...]:
        return tuple((spec.name, spec.inner) for spec in self.outputs)

    @cached_property
    def _ndarray(self) -> type[Array]:
        import numpy as np

        return np.ndarray

    def feeds(self, inputs: dict[str, Array] | Array) -> dict[str, Array]:
        """The artifact's tensors from a dict of arrays by input name, or one array for a single input.

        An image to preprocess may come with or without its batch axis. Raises: InvalidInput.
        """
        named = inputs if isinstance(inputs, dict) else {self._only(): inputs}
        if named.keys() != self.accepts.keys():
            odd = min(named.keys() ^ self.accepts.keys(), key=str)
            trouble = "is missing" if odd in self.accepts else "is unknown"
            raise InvalidInput(f"input {odd!r} {trouble}", f"the model takes {', '.join(self.accepts)}")
        return {inner: self._feed(spec, wanted, named[spec.name], step) for inner, spec, wanted, step in self._ways_in}

    def _only(self) -> str:
        if len(self.inputs) != 1:
            raise InvalidInput("the model has several inputs", f"give a dict with {', '.join(self.accepts)}")
        return self.inputs[0].name

    def _feed(self, spec: TensorSpec, wanted: TensorSpec, array: Array, step: Preprocess | None) -> Array:
        if not isinstance(array, self._ndarray):
            raise InvalidInput(f"input {spec.name!r} is a {type(array).__name__}", "give a numpy array")
        if step and array.ndim == len(wanted.shape) - 1:
            array = array[None]
        wanted.check(array)
        return step.apply(array, spec.dtype) if step else array

    def results(self, raw: dict[str, Array]) -> dict[str, Array]:
        """The engine's outputs by the names of the source model, in its order. Raises: EngineError."""
        raw = self.postprocess.run(raw) if self.postprocess else raw
        try:
            return {name: raw[inner] for name, inner in self._ways_out}
        except KeyError as error:
            raise EngineError(f"the model has no output {error}", f"it has {', '.join(raw)}") from error

    def as_dict(self) -> dict[str, Any]:
        return {
            "inputs": [spec.as_dict() for spec in self.inputs],
            "outputs": [spec.as_dict() for spec in self.outputs],
            "preprocess": {name: step.as_dict() for name, step in self.preprocess.items()},
            "agreement": {name: how.as_dict() for name, how in self.agreement.items()},
            **({"postprocess": self.postprocess.as_dict()} if self.postprocess else {}),
            **({"features": self.features.as_dict()} if self.features else {}),
        }

    @staticmethod
    def of(document: dict[str, Any]) -> Interface:
        """Raises: ValueError, TypeError, KeyError for what ``as_dict`` did not write."""
        inputs, outputs = (_specs(fields.items(document[key])) for key in ("inputs", "outputs"))
        steps = fields.table(document["preprocess"])
        unknown = steps.keys() - {spec.name for spec in inputs}
        if unknown:
            raise ValueError(f"preprocess for {min(unknown)!r}, which is no input")
        preprocess = {name: Preprocess.of(step) for name, step in steps.items()}
        agreement = _agreement(document, {spec.name for spec in outputs})
        features = Features.of(fields.table(document["features"])) if "features" in document else None
        return Interface(inputs, outputs, preprocess, agreement, _postprocess(document, outputs), features)


def _postprocess(document: dict[str, Any], outputs: tuple[TensorSpec, ...]) -> Postprocess | None:
    """Most bundles have none."""
    if "postprocess" not in document:
        return None
    with brought():
        from edgekit_postprocess import Postprocess

    found = Postprocess.of(fields.table(document["postprocess"]))
    missing = {spec.inner for spec in outputs} - found.gives
    if missing:
        raise ValueError(f"the postprocess gives no {min(missing)[:80]!r}")
    return found


def _agreement(document: dict[str, Any], outputs: set[str]) -> dict[str, Agreement]:
    """Bundles of earlier builds declare none."""
    declared = fields.table(document.get("agreement", {}))
    agreement = {name: Agreement.of(fields.table(how)) for name, how in declared.items()}
    unknown = {*agreement, *(name for how in agreement.values() for name in how.takes)} - outputs
    if unknown:
        raise ValueError(f"agreement of {min(unknown)!r}, which is no output")
    if any(how.by == "boxes" for how in agreement.values()):
        with brought():
            import edgekit_postprocess  # noqa: F401 — the proof will ask for it
    return agreement


def _specs(documents: list[Any]) -> tuple[TensorSpec, ...]:
    specs = tuple(TensorSpec.of(fields.table(document)) for document in documents)
    if len({spec.name for spec in specs}) != len(specs) or not specs:
        raise ValueError(f"{len(specs)} tensors with {len({spec.name for spec in specs})} names")
    return specs
