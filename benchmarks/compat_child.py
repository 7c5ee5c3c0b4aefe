"""Loads and runs artifacts with the one engine of this environment: a line of JSON for each, in order.

    python compat_child.py ENGINE PATH…      (each PATH.npz beside it holds the feeds)
    python compat_child.py --kernels         (what onnxruntime says of itself: kernels and operator schemas)

It uses the engine adapters that serve on a device, so it runs on what they run on: Python 3.8, numpy, the engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgekit_runtime import engines
from edgekit_runtime.manifest import EngineNeed


def main(words: list[str]) -> None:
    if words == ["--kernels"]:
        json.dump({"kernels": kernels(), "schemas": schemas()}, sys.stdout)
        return
    for path in words[1:]:
        print(json.dumps(attempt(EngineNeed(words[0]), path)), flush=True)


def attempt(need: EngineNeed, path: str) -> dict[str, str]:
    """Which stage an artifact reached, ``load``, ``run`` or ``done``, and what stopped it there."""
    stage = "load"
    try:
        engine = engines.load(Path(path).read_bytes(), [need])
        stage = "run"
        with np.load(path + ".npz") as feeds:
            engine.run({name: feeds[name] for name in feeds.files})
        engine.close()
    except Exception as error:  # the outermost frame: whatever an old engine throws is its answer
        return {"path": path, "stage": stage, "error": str(error)[:600]}
    return {"path": path, "stage": "done", "error": ""}


def kernels() -> list[Any]:
    """Domain, operator, first and last version, types by parameter of each kernel on the CPU."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return [
        [kernel.domain, kernel.op_name, *kernel.version_range, dict(kernel.type_constraints)]
        for kernel in state.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider"
    ]


def schemas() -> list[Any]:
    """Domain, operator, version, and (name, type or type parameter, kind) of its inputs and of its outputs."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return [
        [each.domain, each.name, each.since_version, formals(each.inputs), formals(each.outputs)]
        for each in state.get_all_operator_schema()
    ]


def formals(parameters: Any) -> list[Any]:
    return [[each.name, each.typeStr, str(each.option).rpartition(".")[2]] for each in parameters]


if __name__ == "__main__":
    main(sys.argv[1:])
