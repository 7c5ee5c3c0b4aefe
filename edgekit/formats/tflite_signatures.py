"""Training signatures of a TFLite file: which signature serves beside them, and how its graph becomes the first.

An interpreter that is told nothing runs the first graph of a file (schema.fbs of LiteRT: the primary subgraph), and
TensorFlow's converter orders graphs by the names of their signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from edgekit_train.signature_trainer import NAMES

SERVING = "serving_default"
KEPT = "training-signatures"
"""In the lineage of a model: a build has tried them, and kept them."""
REFERENCES = ("SubgraphIndex", "SubgraphIndices")
"""The ends of the fields by which operators name graphs; a CALL's is ``subgraph``."""


def trains(signatures: Set[str]) -> bool:
    """Whether a file with these signatures can be trained by them."""
    return signatures >= set(NAMES)


def serving(signatures: Set[str]) -> str | None:
    """Which one serves, of a file that trains; None where nothing tells."""
    others = sorted(signatures - set(NAMES))
    return SERVING if SERVING in others else others[0] if len(others) == 1 else None


def graph_of(document: Any, key: str) -> int:
    """The number of a signature's graph. Raises: StopIteration for a signature that is not there."""
    return next(int(each.subgraphIndex) for each in document.signatureDefs if each.signatureKey.decode() == key)


def put_first(document: Any, place: int) -> None:
    """Move a graph of an unpacked file to the front; all that names graphs by number follows."""
    order = [place, *(each for each in range(len(document.subgraphs)) if each != place)]
    new = {old: at for at, old in enumerate(order)}
    document.subgraphs = [document.subgraphs[old] for old in order]
    for signature in document.signatureDefs:
        signature.subgraphIndex = new[signature.subgraphIndex]
    for options, field in _references(document):
        told = getattr(options, field)
        setattr(options, field, new[told] if isinstance(told, int) else [new[int(each)] for each in told])


def _references(document: Any) -> Iterator[tuple[Any, str]]:
    """Where operators name graphs: the object, and its field."""
    for graph in document.subgraphs:
        for operator in graph.operators or ():
            for options in (operator.builtinOptions, operator.builtinOptions2):
                for field, told in vars(options).items() if options else ():
                    if told is not None and (field.endswith(REFERENCES) or field == "subgraph"):
                        yield options, field
