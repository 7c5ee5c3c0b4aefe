"""ONNX Runtime: ONNX models on the CPU, CUDA or TensorRT.

Models are loaded from bytes, and external data is refused: onnxruntime up to 1.23 reads any file that a model names.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

from edgekit_runtime.engines import tensorrt
from edgekit_runtime.engines.external import names_files
from edgekit_runtime.engines.ort_profile import nodes_by_provider, time_by_node
from edgekit_runtime.errors import EngineError, EngineNotInstalled, InvalidInput

if TYPE_CHECKING:
    from edgekit_runtime.engines import Array, Engine, EngineOptions

CPU = "CPUExecutionProvider"
ERRORS_ONLY = 3
EXACT_SUMS = ("session.x64quantprecision", "1")
"""x86 without VNNI adds products of uint8 and int8 in 16 bits, which overflow; with this onnxruntime goes another way
there and gives what VNNI and ARM give. Only there: it fails on models in which two nodes share a weight."""

KEEP_FLOAT = ("WeightBiasQuantization",)
"""A pass of onnxruntime's that rounds float weights to int8 where quantized layers surround theirs: what was kept in
float for its sensitivity would not be computed so."""

PROFILE_CALLS, PROFILE_S = 10, 5.0
"""Few: what onnxruntime tells of a node in a call is a kilobyte."""

# From 1.29 on, onnxruntime reports sessions to its maker and leaves an identifier in ~/.cache, unless this is set
# before it is imported. Nothing is sent that nobody asked for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load(model: bytes, options: EngineOptions) -> Engine:
    """Raises: EngineNotInstalled, EngineError."""
    try:
        import onnxruntime  # noqa: F401 — asked here, used below
    except ImportError as error:
        raise EngineNotInstalled(f"onnxruntime cannot be imported ({error})", "pip install onnxruntime") from error
    return OnnxRuntime(model, options)


class OnnxRuntime:
    """An ONNX model in an inference session. ``provider`` is the first that onnxruntime really took."""

    name = "onnxruntime"

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        import onnxruntime as ort

        self.version = ort.__version__
        self._options, self._foreign = options, foreign_errors()
        self._check(model)
        try:
            session = _session(model, options)
        except self._foreign as error:
            raise EngineError(f"onnxruntime {self.version} cannot load the model: {_line(error)}") from error
        self._session: ort.InferenceSession | None = session
        self.provider: str = session.get_providers()[0]
        self._inputs = dict.fromkeys(value.name for value in session.get_inputs()).keys()
        self._outputs = [value.name for value in session.get_outputs()]

    def _check(self, model: bytes) -> None:
        try:
            elsewhere = names_files(model)
        except ValueError as error:
            raise EngineError(f"onnxruntime {self.version} cannot load the model: no ONNX file: {error}") from error
        if elsewhere:
            raise EngineError(
                "the model keeps its weights in other files", "save it as one: onnx.save(onnx.load(…), …)"
            )

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        session = self._session
        if session is None:
            raise EngineError("the session is closed", "load the model again")
        if not feeds.keys() <= self._inputs:
            unknown = min(feeds.keys() - self._inputs)
            raise InvalidInput(f"the model has no input {unknown!r}", f"it has {', '.join(self._inputs)}")
        try:
            return dict(zip(self._outputs, session.run(self._outputs, feeds)))
        except self._foreign as error:
            raise EngineError(f"onnxruntime {self.version} failed: {_line(error)}") from error

    def share(self, model: bytes, feeds: dict[str, Array]) -> float:
        """By a run of two sessions more: as a provider may run many nodes as one, all but the others' share of what
        the CPU alone runs. Raises: EngineError.
        """
        if self.provider == CPU:
            return 1.0
        try:
            ours, alone = (
                nodes_by_provider(_profile(model, each, lambda session: session.run(None, feeds), fused=False))
                for each in (self._options, replace(self._options, providers=()))
            )
        except self._foreign as error:
            raise EngineError(f"onnxruntime {self.version} failed: {_line(error)}") from error
        elsewhere = sum(number for name, number in ours.items() if name != self.provider)
        return max(0.0, 1 - elsewhere / max(1, sum(alone.values())))

    def layers(self, model: bytes, feeds: dict[str, Array]) -> list[dict[str, Any]]:
        """By a session more, of the nodes that onnxruntime has made of the model's. Raises: EngineError."""
        try:
            return time_by_node(_profile(model, self._options, lambda session: _calls(session, feeds)))
        except self._foreign as error:
            raise EngineError(f"onnxruntime {self.version} failed: {_line(error)}") from error

    def close(self) -> None:
        self._session = None


def _session(model: bytes, options: EngineOptions, profile: str = "", *, fused: bool = True) -> Any:
    """With ``profile``, the beginning of a file's name, nodes are told of there; not ``fused``, but by providers."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = ERRORS_ONLY
    if options.plain:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif not fused:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if profile:
        settings.enable_profiling, settings.profile_file_prefix = True, profile
    if _sums_overflow():
        settings.add_session_config_entry(*EXACT_SUMS)
    return ort.InferenceSession(
        model,
        settings,
        providers=_providers(options, ort.get_available_providers(), ort.__version__),
        enable_fallback=0,
        disabled_optimizers=KEEP_FLOAT,
    )


def _providers(options: EngineOptions, available: list[str], version: str) -> list[Any]:
    """Those that this build has, in the target's order."""
    names = [name for name in options.providers if name in available] or [CPU]
    if tensorrt.NAME not in names:
        return names
    cache = tensorrt.cache(options.cache, version)
    known = {tensorrt.NAME: tensorrt.options(options.precision, cache, version)}
    return [(name, known[name]) if name in known else name for name in names]


def _profile(
    model: bytes, options: EngineOptions, work: Callable[[Any], object], *, fused: bool = True
) -> list[dict[str, Any]]:
    """What onnxruntime tells of a session at work."""
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, options, os.path.join(folder, "profile"), fused=fused)
        work(session)
        with open(session.end_profiling()) as file:
            events: list[dict[str, Any]] = json.load(file)
            return events


def _calls(session: Any, feeds: dict[str, Array]) -> None:
    """The first one is not counted."""
    until = time.monotonic() + PROFILE_S
    for call in range(PROFILE_CALLS):
        session.run(None, feeds)
        if call and time.monotonic() > until:
            return


def _sums_overflow() -> bool:
    if platform.machine() != "x86_64":
        return False
    try:
        with open("/proc/cpuinfo") as file:
            return "vnni" not in file.read()
    except OSError:
        return True


def foreign_errors() -> tuple[type[Exception], ...]:
    """Onnxruntime's own exceptions (Fail, InvalidGraph, …), which share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
