"""edgekit: trained models to devices that you own, and kept well there."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime asks when it is imported, whoever does that first
