"""The task of convert_tflite's child process: tf2onnx, which brings TensorFlow with it."""

from __future__ import annotations

from typing import Any

from edgekit.passes.write_onnx import write_onnx


def convert(order: dict[str, Any]) -> dict[str, Any]:
    import tf2onnx

    document, _ = tf2onnx.convert.from_tflite(order["source"], opset=order["opset"])
    write_onnx(document, order)
    return {}
