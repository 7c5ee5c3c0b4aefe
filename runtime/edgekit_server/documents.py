"""Documents: what the server says of itself and of releases, in the words of the protocols.

Standard library only: the process that answers with them loads neither numpy nor an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable

from edgekit_runtime import __version__
from edgekit_runtime.tensors import DTYPES
from edgekit_server.counts import KINDS, STAGES, Counts
from edgekit_server.queueing import MOST_ROWS

if TYPE_CHECKING:
    from edgekit_runtime.manifest import Manifest
    from edgekit_runtime.tensors import TensorSpec

DATATYPES = {name: name.upper().replace("FLOAT", "FP") for name in DTYPES}
"""The protocol's words, by numpy's."""
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "schedule_policy", "statistics"]
_PLATFORMS = {"onnx": "onnx_onnxv1", "tflite": "tflite_flatbuffer"}
_AVAILABLE = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNLOADING": "UNLOADING"}


def server() -> dict[str, Any]:
    return {"name": "edgekit-runtime", "version": __version__, "extensions": EXTENSIONS}


def version_of(manifest: Manifest) -> str:
    """What a release is called in a URL: its sequence, which is of no other build of the app, and rises."""
    return str(manifest.sequence)


def metadata(manifest: Manifest) -> dict[str, Any]:
    """Of a model, in the Open Inference Protocol."""
    return {
        "name": manifest.app,
        "versions": [version_of(manifest)],
        "platform": _platform(manifest),
        "inputs": [_tensor(spec) for spec in manifest.interface.accepts.values()],
        "outputs": [_tensor(spec) for spec in manifest.interface.outputs],
    }


def config(manifest: Manifest) -> dict[str, Any]:
    """Triton's model configuration, as far as it means something here; perf_analyzer does not begin without."""
    batched = takes_batches(manifest)
    about = {"version": manifest.version, "target": manifest.target, "precision": manifest.precision}
    return {
        "name": manifest.app,
        "platform": _platform(manifest),
        "backend": manifest.engines[0].name,
        "max_batch_size": MOST_ROWS if batched else 0,
        "input": [_configured(spec, batched) for spec in manifest.interface.accepts.values()],
        "output": [_configured(spec, batched) for spec in manifest.interface.outputs],
        "parameters": {key: {"string_value": text} for key, text in about.items()},
    }


def takes_batches(manifest: Manifest) -> bool:
    """Whether the first axis of every input and output is free: it is that of the samples."""
    specs = (*manifest.interface.accepts.values(), *manifest.interface.outputs)
    return all(spec.shape[:1] == (None,) for spec in specs)


def index(states: Iterable[tuple[str, str, str, str]]) -> list[dict[str, str]]:
    """Of (app, version, state, reason); the states are READY, LOADING, UNLOADING and UNAVAILABLE."""
    keys = ("name", "version", "state", "reason")
    return [{key: text for key, text in zip(keys, row) if text} for row in states]


def statistics(served: Iterable[tuple[str, str, Counts]]) -> dict[str, Any]:
    """Of (app, version, counts)."""
    return {"model_stats": [_statistics(*each) for each in served]}


def availability(version: str, state: str) -> dict[str, Any]:
    """A state as TensorFlow Serving tells it."""
    fine = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": version, "state": _AVAILABLE.get(state, "END"), "status": fine}]}


def _statistics(name: str, version: str, counts: Counts) -> dict[str, Any]:
    runs = sorted(counts.runs.items())
    return {
        "name": name,
        "version": version,
        "last_inference": counts.last_ms,
        "inference_count": counts.samples,
        "execution_count": sum(run.times["compute_infer"] for _, run in runs),
        "inference_stats": _durations(counts, KINDS),
        "batch_stats": [{"batch_size": size, **_durations(run, STAGES[1:])} for size, run in runs],
    }


def _durations(counts: Counts, kinds: Iterable[str]) -> dict[str, dict[str, int]]:
    return {kind: {"count": counts.times[kind], "ns": counts.ns[kind]} for kind in kinds}


def _platform(manifest: Manifest) -> str:
    return _PLATFORMS.get(manifest.format, manifest.format)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": _sizes(spec)}


def _configured(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{DATATYPES[spec.dtype]}", "dims": _sizes(spec)[batched:]}


def _sizes(spec: TensorSpec) -> list[int]:
    return [-1 if size is None else size for size in spec.shape]
