"""ONNX → the ONNX that a target reads: all weights inside, operator set and IR version no newer than its own.

It comes before every recipe of an ONNX model, so it is no entry of a plan. A model that fits already stays as it is.
"""

from __future__ import annotations

import onnx
from onnx.version_converter import ConvertError

from edgekit.errors import ConversionError
from edgekit.formats import onnx_file
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass
from edgekit.passes.opset_onnx import at_opset
from edgekit.passes.proof import check_engines
from edgekit_runtime.engines import EngineOptions, ort

NAME = "fit-onnx"


def fit(model: Model, context: Context) -> Model:
    """Raises: UnsupportedFormat, DataError, ConversionError where the target lacks an operator."""
    if model.format is not Format.ONNX:
        return model
    form, document = context.target.onnx, onnx_file.load(model.path)
    embedded = document != onnx.load(model.path, load_external_data=False)
    newer = onnx_file.opset(document) > form.opset
    if not (embedded or newer or document.ir_version > form.ir_version):
        return model
    fitted = _at_opset(model, document, form.opset) if newer else document
    fitted.ir_version = min(fitted.ir_version, form.ir_version)
    path = context.work / f"{model.path.stem}.onnx"
    onnx.save(fitted, path)
    result = derived(model, path, NAME)
    if newer:
        before, after = (ort.load(each.SerializeToString(), EngineOptions()) for each in (document, fitted))
        check_engines(result, before, after, context.feeds(result))
    return result


def _at_opset(model: Model, document: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    try:
        return at_opset(document, opset)
    except (ConvertError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise ConversionError(
            f"{model.path.name}: is of opset {onnx_file.opset(document)}, the target takes {opset}: {line}",
            f"export it again with opset {opset}",
        ) from error


fit_onnx = Pass(NAME, Format.ONNX, Format.ONNX, fit)
