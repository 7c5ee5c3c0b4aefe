"""TensorFlow Serving's REST dialect, ``:predict``: "instances", one a sample, or "inputs", whole tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields
from edgekit_runtime.errors import InvalidInput
from edgekit_server import lists
from edgekit_server.asked import Answer, Asked

if TYPE_CHECKING:
    import numpy as np

    from edgekit_runtime.interface import Interface

    Array = np.ndarray[Any, Any]

SIGNATURE = "serving_default"


def decode(body: memoryview, header_length: int | None, interface: Interface) -> Asked:
    """What a body asks for; all of it is JSON. Raises: InvalidInput."""
    with lists.reading():
        document = lists.load(body)
        columns = _columns(document, interface)
        feeds = {}
        for name, spec in interface.accepts.items():
            shape = lists.checked(lists.shape_of(columns[name]), spec)
            feeds[name] = lists.array(columns[name], spec, shape)
        wanted = {spec.name: False for spec in interface.outputs}
        return Asked(feeds, wanted, by_sample="instances" in document)


def encode(asked: Asked, outputs: dict[str, Array], model: str, version: str) -> Answer:
    """The answer in the form that was asked in. Raises: InvalidInput."""
    arrays = {name: outputs[name] for name in asked.wanted}
    if asked.by_sample:
        return Answer(lists.dump({"predictions": _samples(arrays)}))
    return Answer(lists.dump({"outputs": _bare({name: array.tolist() for name, array in arrays.items()})}))


def _columns(document: dict[str, Any], interface: Interface) -> dict[str, Any]:
    """By input name, whole tensors as nested lists."""
    names = interface.accepts.keys()
    if document.get("signature_name", "") not in (SIGNATURE, ""):
        raise ValueError(f"the only signature is {SIGNATURE!r}")
    if ("instances" in document) == ("inputs" in document):
        raise ValueError("it has not one of 'instances' and 'inputs'")
    if "inputs" in document:
        inputs = document["inputs"]
        return fields.table(inputs) if len(names) > 1 or isinstance(inputs, dict) else dict.fromkeys(names, inputs)
    samples = fields.items(document["instances"])
    if len(names) == 1 and not (samples and isinstance(samples[0], dict)):
        return dict.fromkeys(names, samples)
    if any(fields.table(sample).keys() != names for sample in samples):
        raise ValueError(f"the keys of each of the 'instances' must be {', '.join(names)}")
    return {name: [sample[name] for sample in samples] for name in names}


def _samples(arrays: dict[str, Array]) -> list[Any]:
    lengths = {array.shape[:1] for array in arrays.values()}
    if len(lengths) > 1 or () in lengths:
        raise InvalidInput("the outputs have no batch axis in common", "ask with 'inputs' instead of 'instances'")
    rows = zip(*(array.tolist() for array in arrays.values()))
    return [_bare(dict(zip(arrays, row))) for row in rows]


def _bare(named: dict[str, Any]) -> Any:
    """By name where there are several."""
    return named if len(named) > 1 else next(iter(named.values()))
