"""Tools: the packages that what a build makes depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

NAMES = (
    *("edgekit-sdk", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "numpy"),
    *("keras", "litert-torch", "onnxscript", "tensorflow", "tf-keras", "tf2onnx", "torch"),
)


def versions() -> dict[str, str]:
    """By name, of those that are installed."""
    return {name: found for name in NAMES if (found := _version(name))}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
