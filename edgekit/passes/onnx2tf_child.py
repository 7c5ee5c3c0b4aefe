"""The task of convert_onnx's child process; it runs in the environment of onnx2tf, where there is no edgekit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any


def convert(order: dict[str, Any]) -> dict[str, Any]:
    import onnx2tf  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(dir=".") as folder:
        source = Path(folder, "model.onnx")  # a copy: onnx2tf may write into its source
        source.write_bytes(Path(order["source"]).read_bytes())
        try:
            onnx2tf.convert(
                input_onnx_file_path=str(source),
                output_folder_path=folder,
                tflite_backend="flatbuffer_direct",
                keep_ncw_or_nchw_or_ncdhw_input_names=order["inputs"],
                not_use_onnxsim=True,
                not_use_opname_auto_generate=True,
                verbosity="error",
            )
        except SystemExit as error:  # how onnx2tf gives up
            raise RuntimeError("onnx2tf gave up") from error
        Path(folder, "model_float32.tflite").rename(order["result"])
    return {}
