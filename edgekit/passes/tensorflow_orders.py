"""What child processes that use TensorFlow are told."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from edgekit.errors import ExtraNotInstalled
from edgekit.model import Format, Model
from edgekit.passes import Context


def check_installed(model: Model, what: str, form: Format) -> None:
    """Raises: ExtraNotInstalled without what converts to a format."""
    for module in ("tensorflow", "tf2onnx") if form is Format.ONNX else ("tensorflow",):
        if find_spec(module) is None:
            raise ExtraNotInstalled(f"{model.path.name}: {what} need {module}", "pip install 'edgekit-sdk[tensorflow]'")


def order_for(model: Model, context: Context, form: Format) -> dict[str, Any]:
    """What every child that uses TensorFlow is told."""
    result = context.work.resolve() / f"{model.path.stem}.{form.value}"
    onnx = context.target.onnx
    return {
        "source": str(model.path.resolve()),
        "result": str(result),
        "probe": f"{result}.probe.npz",
        "format": form.value,
        "opset": onnx.opset,
        "ir_version": onnx.ir_version,
    }
