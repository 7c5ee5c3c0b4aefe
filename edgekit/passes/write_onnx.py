"""What the children that use TensorFlow or PyTorch share: writing ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def write_onnx(document: Any, order: Mapping[str, Any]) -> None:
    """As the target of the order reads it."""
    import onnx

    from edgekit.formats import onnx_file

    _spell_out_erfc(document.graph)
    onnx_file.drop_unused_opsets(document)
    document.ir_version = order["ir_version"]
    onnx.save(document, order["result"])


def _spell_out_erfc(graph: Any) -> None:
    """erfc(x) = 1 - erf(x), and erfc(-x) = 1 + erf(x), the form of GELU that engines know.

    TensorFlow writes GELU with it; tf2onnx leaves it as it is, and ONNX has no such operator.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    negated = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Neg"}
    nodes = []
    for node in graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        (given,), (result,) = node.input, node.output
        one, erf = f"{result}/one", f"{result}/erf"
        graph.initializer.append(numpy_helper.from_array(np.float32(1.0), one))
        nodes.append(helper.make_node("Erf", [negated.get(given, given)], [erf], erf))
        nodes.append(helper.make_node("Add" if given in negated else "Sub", [one, erf], [result], node.name))
    del graph.node[:]
    graph.node.extend(nodes)
