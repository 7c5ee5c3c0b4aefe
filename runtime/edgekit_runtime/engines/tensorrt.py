"""TensorRT in ONNX Runtime: what it may compute in, and where the engines stay that it takes minutes to build.

An engine is good for one model, TensorRT, GPU and L4T: it lies in a folder for these, in that of the model.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import re
import shutil
from ctypes.util import find_library
from pathlib import Path

NAME = "TensorrtExecutionProvider"
YES = "True"
INT8 = ("int8", "mixed", "int8-weights")
"""Precisions with Q/DQ nodes, for which TensorRT wants its flag."""
MACHINE = {
    "etc/nv_tegra_release": r"R\d+ \(release\), REVISION: [\d.]+",
    "proc/device-tree/model": ".+",
    "proc/driver/nvidia/gpus/*/information": "Model:.*",
}
"""Files and what of them tells L4T, the Jetson, and GPUs on cards."""


def options(precision: str, cache: Path | None, version: str) -> dict[str, str]:
    """For ONNX Runtime ``version`` (https://onnxruntime.ai/docs/execution-providers). Float32 stays float32; pure."""
    flags = {"trt_int8_enable": precision in INT8, "trt_fp16_enable": precision == "float16"}
    flags.update(dict.fromkeys(("trt_engine_cache_enable", "trt_timing_cache_enable"), cache is not None))
    paths = ["trt_engine_cache_path"]
    if [int(number) for number in re.findall(r"\d+", version)[:2]] >= [1, 17]:  # before, timings lay there, too
        paths.append("trt_timing_cache_path")
    return {**{name: YES for name, on in flags.items() if on}, **(dict.fromkeys(paths, str(cache)) if cache else {})}


def cache(root: Path | None, version: str) -> Path | None:
    """The folder in ``root`` for what is built here and now; others there go. None where there can be none."""
    if not root:
        return None
    folder = root / key(version, library(), *machine(Path("/")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    for other in root.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def key(*facts: str) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def library() -> str:
    """TensorRT's version, as its number."""
    try:
        return str(ctypes.CDLL(find_library("nvinfer") or "libnvinfer.so").getInferLibVersion())
    except (OSError, AttributeError):
        return ""


def machine(root: Path) -> list[str]:
    found = []
    for pattern, fact in MACHINE.items():
        for path in sorted(root.glob(pattern)):
            with contextlib.suppress(OSError):
                found += re.findall(fact, path.read_text(errors="replace"))
    return found
