"""LiteRT (ai-edge-litert) and its forerunner tflite-runtime: TFLite models on the CPU, through XNNPACK.

The interpreter is one mutable thing, so calls take turns; an input of another size (a free batch) resizes it.
"""

from __future__ import annotations

import threading
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import numpy as np

from edgekit_runtime.errors import EngineError, EngineNotInstalled, InvalidInput

if TYPE_CHECKING:
    from edgekit_runtime.engines import Array, Engine, EngineOptions

Made = TypeVar("Made")
XNNPACK = "XNNPACK"
DELEGATE = "DELEGATE"


def load(model: bytes, options: EngineOptions) -> Engine:
    """Raises: EngineNotInstalled, EngineError."""
    return LiteRT("litert", "ai-edge-litert", _made("ai-edge-litert", options), model)


def load_tflite(model: bytes, options: EngineOptions) -> Engine:
    """Raises: EngineNotInstalled (also beside numpy 2, with which tflite-runtime fails at the first model)."""
    made = _made("tflite-runtime", options)
    if int(np.__version__.partition(".")[0]) >= 2:
        raise EngineNotInstalled(f"tflite-runtime does not work with numpy {np.__version__}", "pip install 'numpy<2'")
    return LiteRT("tflite", "tflite-runtime", made, model)


def _made(package: str, options: EngineOptions) -> Callable[[bytes], Any]:
    """How to make an interpreter of a model; a plain one has no delegate, which is XNNPACK."""
    try:
        found = import_module(f"{package.replace('-', '_')}.interpreter")
    except ImportError as error:
        raise EngineNotInstalled(f"{package} cannot be imported ({error})", f"pip install {package}") from error
    kinds = found.OpResolverType
    kernels = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if options.plain else kinds.AUTO
    return lambda model: found.Interpreter(
        model_content=model, num_threads=options.threads, experimental_op_resolver_type=kernels
    )


class LiteRT:
    """A TFLite model in an interpreter. ``provider`` is XNNPACK where it took something of the model."""

    def __init__(self, name: str, package: str, made: Callable[[bytes], Any], model: bytes) -> None:
        self.name, self.version = name, _version(package)
        try:
            self._interpreter = made(model)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{name} {self.version} cannot load the model: {_line(error)}") from error
        self._inputs = {detail["name"]: detail["index"] for detail in self._interpreter.get_input_details()}
        self._outputs = {detail["name"]: detail["index"] for detail in self._interpreter.get_output_details()}
        self._shapes: dict[int, tuple[int, ...]] = {
            detail["index"]: tuple(detail["shape"]) for detail in self._interpreter.get_input_details()
        }
        self.provider = XNNPACK if self._taken() else "cpu"
        self._lock = threading.RLock()  # of which ``lend`` lets go only when the outputs were used

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        with self._lock:
            return self._ran(feeds, lambda interpreter, index: interpreter.get_tensor(index))

    def lend(self, feeds: dict[str, Array], use: Callable[[dict[str, Array]], Made]) -> Made:
        """What ``use`` makes of the outputs as they lie in the interpreter. Raises: EngineError, and what it raises."""
        with self._lock:
            return use(self._ran(feeds, _seen))

    def share(self, model: bytes, feeds: dict[str, Array]) -> float:
        taken = self._taken()
        if not taken:
            return 1.0
        own = [node for node in self._interpreter._get_ops_details() if node["op_name"] != DELEGATE]
        return sum(len(_covered(own, node)) for node in taken) / len(own)

    def _taken(self) -> list[dict[str, Any]]:
        """The delegate's nodes, which stand behind the model's."""
        inside, taken = self._interpreter._interpreter, []
        for number in reversed(range(inside.NumNodes())):
            if inside.NodeName(number) != DELEGATE:
                break
            taken.append(self._interpreter._get_op_details(number))
        return taken

    def _ran(self, feeds: dict[str, Array], take: Callable[[Any, int], Array]) -> dict[str, Array]:
        if self._interpreter is None:
            raise EngineError("the session is closed", "load the model again")
        try:
            self._feed(feeds)
            self._interpreter.invoke()
            return {name: take(self._interpreter, index) for name, index in self._outputs.items()}
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.name} {self.version} failed: {_line(error)}", _way_out(error)) from error

    def _feed(self, feeds: dict[str, Array]) -> None:
        indexed = {self._index(name): array for name, array in feeds.items()}
        shapes = {index: array.shape for index, array in indexed.items()}
        if shapes != self._shapes:
            self._shapes = {}  # until it is certain: sizes that do not fit into memory must not spoil the next call
            for index, shape in shapes.items():
                self._interpreter.resize_tensor_input(index, shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in indexed.items():
            self._interpreter.set_tensor(index, array)

    def _index(self, name: str) -> int:
        try:
            index: int = self._inputs[name]
        except KeyError:
            raise InvalidInput(f"the model has no input {name!r}", f"it has {', '.join(self._inputs)}") from None
        return index

    def close(self) -> None:
        with self._lock:
            self._interpreter = None


def _covered(own: list[dict[str, Any]], delegate: dict[str, Any]) -> set[int]:
    """The model's nodes that a delegate's stands for: all between what it takes and what it gives."""
    made_by = {int(tensor): node for node in own for tensor in node["outputs"]}
    found: set[int] = set()
    known, waiting = set(map(int, delegate["inputs"])), list(map(int, delegate["outputs"]))
    while waiting:
        tensor = waiting.pop()
        if tensor not in known and tensor in made_by:
            found.add(made_by[tensor]["index"])
            waiting += map(int, made_by[tensor]["inputs"])
        known.add(tensor)
    return found


def _seen(interpreter: Any, index: int) -> Array:
    array: Array = interpreter.tensor(index)()
    array.setflags(write=False)
    return array


def _way_out(error: Exception) -> str | None:
    """LiteRT looks before it runs whether somebody holds an array of its memory."""
    return "an output of 'lend' was kept: copy what is to stay" if "reference to internal data" in str(error) else None


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a nightly build or a distribution's package goes by another name
        return "of unknown version"


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
