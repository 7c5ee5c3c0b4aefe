# mypy: disable-error-code="import-not-found"
"""NNCF on ONNX, called as its manual does, in an environment of its own: a task of ``edgekit.passes.child``.

The answer is how many ``seconds`` it took once it was imported.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Order = dict[str, Any]


def convert(order: Order) -> dict[str, float]:
    sys.path.insert(0, order["runtime"])
    import nncf
    import onnx

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    calibration = nncf.Dataset(samples(order, "feeds"))
    source = onnx.load(order["source"])
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        onnx.save(TOOLS[order["tool"]](order, source, calibration), order["result"])
    return {"seconds": time.perf_counter() - started}


def samples(order: Order, key: str) -> list[dict[str, Any]]:
    with np.load(order[key]) as data:
        arrays = [data[str(place)] for place in range(len(order["inputs"]))]
    return [dict(zip(order["inputs"], each, strict=True)) for each in zip(*arrays, strict=True)]


def plain(order: Order, source: Any, calibration: Any) -> Any:
    """``flags``: none for the defaults; else asymmetric activations and the slower, more accurate bias correction.

    That fails on some graphs, with an error of onnxruntime; then the faster one is taken.
    """
    import nncf
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    count, mixed = order["count"], nncf.QuantizationPreset.MIXED
    if not order["flags"]:
        return nncf.quantize(source, calibration, subset_size=count)
    try:
        return nncf.quantize(source, calibration, subset_size=count, preset=mixed, fast_bias_correction=False)
    except Fail:
        return nncf.quantize(source, calibration, subset_size=count, preset=mixed)


def with_accuracy_control(order: Order, source: Any, calibration: Any) -> Any:
    import nncf

    evaluation = nncf.Dataset(list(enumerate(samples(order, "evaluation"))))
    return nncf.quantize_with_accuracy_control(
        source,
        calibration,
        evaluation,
        metric(order, source),
        max_drop=order["max_drop"],
        drop_type=nncf.DropType.ABSOLUTE,
        subset_size=order["count"],
    )


def metric(order: Order, source: Any) -> Callable[[Any, Iterable[Any]], tuple[float, list[float]]]:
    """Accuracy where there are labels, else how often a model gives the same answer as the float one."""
    from edgekit_runtime.compare import same_answer

    with np.load(order["evaluation"]) as data:
        labels = data.get("labels")
    wanted = None if labels is not None else [run(source, [each])[0] for each in samples(order, "evaluation")]

    def share(model: Any, data: Iterable[Any]) -> tuple[float, list[float]]:
        numbered = list(data)
        found = run(model, [feeds for _, feeds in numbered])
        if labels is not None:
            right = [
                float(next(iter(o.values())).argmax() == labels[i]) for (i, _), o in zip(numbered, found, strict=True)
            ]
        else:
            assert wanted is not None
            right = [float(same_answer(wanted[i], o)) for (i, _), o in zip(numbered, found, strict=True)]
        return float(np.mean(right)), right

    return share


def run(model: Any, feeds: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return [dict(zip(names, session.run(names, each), strict=True)) for each in feeds]


TOOLS: dict[str, Callable[[Order, Any, Any], Any]] = {"nncf": plain, "nncf-accuracy-control": with_accuracy_control}
