"""The engines as they are: real models in LiteRT and ONNX Runtime, and what each refuses."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgekit_runtime import engines
from edgekit_runtime.engines import Engine, ort_profile
from edgekit_runtime.errors import EngineError, EngineNotInstalled, InvalidInput
from edgekit_runtime.manifest import EngineNeed
from tests.runtime.bundles import MODELS, linear, model_file, onnx_bytes, samples, tensor, weights

RESNET = "resnet8_cifar10/resnet8_cifar10_float32.tflite"
KEYWORDS = "dscnn_kws/dscnn_kws_float32.tflite"
PERSON = "mobilenetv1_025_vww/mobilenetv1_025_96_vww_float32.tflite"
GARBAGE = [b"", b"x", b"\0" * 100, b"TFL3" * 100, b"\x08\x07\x12\x04test" * 9, bytes(range(256)) * 8]


def load(model: bytes, name: str, threads: int = 1, *providers: str) -> Engine:
    return engines.load(model, [EngineNeed(name, "", providers, threads)])


def tflite(model: bytes, threads: int = 1) -> tuple[Engine, str, tuple[int, ...]]:
    """An engine with a model of one input, that input's name, and its shape without the batch."""
    from ai_edge_litert.interpreter import Interpreter

    (detail,) = Interpreter(model_content=model).get_input_details()
    return load(model, "litert", threads), detail["name"], tuple(detail["shape"][1:])


def noise(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).random(shape) * scale).astype(np.float32)


@cache
def quantized(path: str) -> bytes:
    """An int8 model by the AI Edge Quantizer, as a build makes it; its outputs claim one fixed batch."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    from edgekit.formats import tflite_file

    source = tflite_file.with_signature(model_file(path))
    ends = [{"regex": ".*", "operation": end, "algorithm_key": "no_quantize"} for end in ("INPUT", "OUTPUT")]
    interpreter = Interpreter(model_content=source)
    ((key, names),) = interpreter.get_signature_list().items()
    shape = tuple(interpreter.get_input_details()[0]["shape"])
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():  # it warns of itself and draws progress bars
        warnings.simplefilter("ignore")
        worker = quantizer.Quantizer(source)
        worker.load_quantization_recipe([*recipe.static_wi8_ai8(), *ends])
        feeds = [{names["inputs"][0]: noise(shape, seed, 255)} for seed in range(4)]
        statistics = worker.calibrate({key: feeds}, num_threads=1)
        made = worker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    return bytes(made.quantized_model)


def put_elsewhere(constant: onnx.TensorProto, place: str) -> None:
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.append(onnx.StringStringEntryProto(key="location", value=place))


class TestChoosing:
    def test_the_first_engine_that_is_installed_is_taken(self) -> None:
        needs = [EngineNeed("tpu9000"), EngineNeed("onnxruntime"), EngineNeed("litert")]
        assert engines.load(linear(1), needs).name == "onnxruntime"

    def test_an_unknown_engine_lists_the_known_ones(self) -> None:
        with pytest.raises(EngineNotInstalled, match="no engine 'tpu9000'") as caught:
            load(b"", "tpu9000")
        assert caught.value.hint == "known: litert, onnxruntime, tflite"

    @pytest.mark.parametrize(
        ("name", "module", "package"),
        [
            ("litert", "ai_edge_litert.interpreter", "ai-edge-litert"),
            ("tflite", "tflite_runtime.interpreter", "tflite-runtime"),
            ("onnxruntime", "onnxruntime", "onnxruntime"),
        ],
    )
    def test_an_engine_that_is_not_installed_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(EngineNotInstalled, match=f"{package} cannot be imported") as caught:
            load(linear(1), name)
        assert caught.value.hint == f"pip install {package}"

    def test_all_that_are_missing_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("ai_edge_litert.interpreter", "onnxruntime"):
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(EngineNotInstalled, match="the model needs litert or onnxruntime") as caught:
            engines.load(linear(1), [EngineNeed("litert"), EngineNeed("onnxruntime")])
        assert "edgekit device setup" in (caught.value.hint or "")

    def test_a_model_that_an_installed_engine_refuses_is_not_tried_elsewhere(self) -> None:
        with pytest.raises(EngineError, match="onnxruntime .* cannot load"):
            engines.load(b"junk", [EngineNeed("onnxruntime"), EngineNeed("litert")])

    def plug(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        from importlib import metadata

        entries = metadata.EntryPoints([EntryPoint("mine", value, "edgekit_runtime.engines")])
        monkeypatch.setattr(metadata, "entry_points", lambda: entries)

    def test_an_engine_of_another_package_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plug(monkeypatch, "edgekit_runtime.engines.ort:load")
        assert load(linear(1), "mine").name == "onnxruntime"
        with pytest.raises(EngineNotInstalled) as caught:
            load(b"", "yours")
        assert caught.value.hint == "known: litert, mine, onnxruntime, tflite"

    @pytest.mark.parametrize("value", ["no_such_package:load", "edgekit_runtime.engines.ort:no_such_function"])
    def test_an_engine_of_another_package_that_is_broken_is_named(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        self.plug(monkeypatch, value)
        with pytest.raises(EngineNotInstalled, match="engine 'mine' cannot be imported"):
            load(b"", "mine")


class TestOnnxRuntime:
    def test_it_computes_what_the_model_says(self) -> None:
        engine = load(linear(1), "onnxruntime")
        for x in samples():
            np.testing.assert_allclose(engine.run({"x": x})["y"], x @ weights(1), rtol=1e-5)
        assert (engine.provider, engine.version) == ("CPUExecutionProvider", sys.modules["onnxruntime"].__version__)

    def test_a_batch_gives_what_single_calls_give(self) -> None:
        engine, x = load(linear(1), "onnxruntime"), np.concatenate(samples())
        singles = [engine.run({"x": each[None]})["y"] for each in x]
        np.testing.assert_allclose(engine.run({"x": x})["y"], np.concatenate(singles), rtol=1e-6)

    def test_a_provider_that_this_machine_lacks_is_passed_over(self) -> None:
        assert load(linear(1), "onnxruntime", 1, "NoSuchExecutionProvider").provider == "CPUExecutionProvider"

    @pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
    def test_no_other_file_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        (tmp_path / "model").mkdir()
        for folder in (tmp_path, tmp_path / "model"):
            (folder / "weights.bin").write_bytes(weights(1).tobytes())
        monkeypatch.chdir(tmp_path / "model")
        model = onnx.load_from_string(linear(1))
        put_elsewhere(model.graph.initializer[0], place.format(folder=tmp_path))
        with pytest.raises(EngineError, match="keeps its weights in other files") as caught:
            load(model.SerializeToString(), "onnxruntime")
        assert "save it as one" in (caught.value.hint or "")

    def test_a_failing_run_is_one_line(self) -> None:
        engine = load(linear(1), "onnxruntime")
        with pytest.raises(EngineError, match="^onnxruntime .* failed: ") as caught:
            engine.run({"x": np.zeros((1, 9), np.float32)})
        assert "\n" not in str(caught.value)

    def test_an_unknown_input_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="no input 'z'") as caught:
            load(linear(1), "onnxruntime").run({"z": samples()[0]})
        assert caught.value.hint == "it has x"

    def test_a_newer_model_than_the_engine_reads_is_an_error_of_ours(self) -> None:
        model = onnx.load_from_string(linear(1))
        model.ir_version = 99
        with pytest.raises(EngineError, match="cannot load the model"):
            load(model.SerializeToString(), "onnxruntime")


TOO_LARGE = """
import resource, sys
import numpy as np
from edgekit_runtime.engines import load
from edgekit_runtime.errors import EngineError
from edgekit_runtime.manifest import EngineNeed

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
engine, x = load(open(sys.argv[1], "rb").read(), [EngineNeed("litert")]), np.ones((1, 49, 10, 1), np.float32)
(want,) = engine.run({"input_1": x}).values()
try:
    engine.run({"input_1": np.broadcast_to(x, (400_000, 49, 10, 1))})
except EngineError as error:
    print(type(error).__name__)
(got,) = engine.run({"input_1": x}).values()
print(np.array_equal(got, want))
"""


class TestLiteRT:
    @pytest.mark.parametrize("path", [RESNET, KEYWORDS, PERSON])
    def test_any_batch_gives_what_single_calls_give(self, path: str) -> None:
        engine, name, shape = tflite(model_file(path))
        self.check_batches(engine, name, noise((4, *shape), scale=255 if path == RESNET else 1))

    @pytest.mark.parametrize("path", [RESNET, PERSON])
    def test_any_batch_of_a_quantized_model_gives_what_single_calls_give(self, path: str) -> None:
        engine, name, shape = tflite(quantized(path))
        self.check_batches(engine, name, noise((4, *shape), scale=255 if path == RESNET else 1))

    def check_batches(self, engine: Engine, name: str, x: NDArray[Any]) -> None:
        singles = [engine.run({name: x[i : i + 1]}) for i in range(4)]
        (output,) = singles[0]
        want = np.concatenate([single[output] for single in singles])
        assert len(np.unique(want, axis=0)) > 1, "the samples tell the calls apart"
        for batch in (slice(0, 4), slice(0, 1), slice(1, 4), slice(0, 4)):
            got = engine.run({name: x[batch]})[output]
            np.testing.assert_allclose(got, want[batch], atol=1e-6)
            assert got.shape == want[batch].shape

    def test_the_declared_batch_of_a_quantized_output_is_fixed(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=quantized(RESNET))
        interpreter.allocate_tensors()
        assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, 32, 32, 3]
        assert interpreter.get_output_details()[0]["shape_signature"].tolist() == [1, 10]

    def test_int8_models_take_and_give_int8(self) -> None:
        engine, name, shape = tflite(model_file("resnet8_cifar10/resnet8_cifar10_int8.tflite"))
        x = np.random.default_rng(0).integers(-128, 128, (3, *shape), np.int8)
        (scores,) = engine.run({name: x}).values()
        assert (scores.dtype, scores.shape) == (np.int8, (3, 10))

    def test_a_fixed_size_stays_fixed(self) -> None:
        engine, name, shape = tflite(model_file(RESNET))
        with pytest.raises(EngineError, match="^litert .* failed: .*dimension"):
            engine.run({name: noise((1, 31, *shape[1:]))})

    def test_after_a_call_that_failed_the_next_one_works(self) -> None:
        engine, name, shape = tflite(model_file(RESNET))
        x = noise((1, *shape), scale=255)
        want = engine.run({name: x})
        wrong: list[NDArray[Any]] = [noise((2, 31, *shape[1:])), x.astype(np.float64), x[0], np.zeros(0, np.float32)]
        for each in wrong:
            with pytest.raises(EngineError):
                engine.run({name: each})
            for output, array in engine.run({name: x}).items():
                np.testing.assert_array_equal(array, want[output])

    def test_after_a_batch_that_is_too_large_the_next_one_works(self) -> None:
        model_file(KEYWORDS)
        command = [sys.executable, "-c", TOO_LARGE, str(MODELS / KEYWORDS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "EngineError\nTrue\n"

    def test_an_unknown_input_is_refused(self) -> None:
        engine, name, shape = tflite(model_file(RESNET))
        with pytest.raises(InvalidInput, match="no input 'z'") as caught:
            engine.run({"z": noise((1, *shape))})
        assert caught.value.hint == f"it has {name}"


ENGINES: dict[str, Callable[[], tuple[Engine, str, NDArray[Any]]]] = {
    "onnxruntime": lambda: (load(linear(1), "onnxruntime", 2), "x", np.concatenate(samples(8))),
    "litert": lambda: (*tflite(model_file(RESNET), 2)[:2], noise((8, 32, 32, 3), scale=255)),
}


@pytest.mark.parametrize("name", ENGINES)
class TestEveryEngine:
    """What the contract says of all of them."""

    @pytest.fixture
    def loaded(self, name: str) -> Iterator[tuple[Engine, str, NDArray[Any]]]:
        engine, tensor_name, x = ENGINES[name]()
        yield engine, tensor_name, x
        engine.close()

    def test_each_of_eight_threads_gets_its_own_result(self, loaded: tuple[Engine, str, NDArray[Any]]) -> None:
        engine, name, x = loaded
        want = [engine.run({name: each[None]}) for each in x]
        start = threading.Barrier(8)

        def work(i: int) -> list[bool]:
            start.wait()
            return [
                all(np.allclose(got, want[i][output]) for output, got in engine.run({name: x[i : i + 1]}).items())
                for _ in range(40)
            ]

        with ThreadPoolExecutor(8) as pool:
            assert all(all(results) for results in pool.map(work, range(8)))

    def test_outputs_belong_to_the_caller(self, loaded: tuple[Engine, str, NDArray[Any]]) -> None:
        engine, name, x = loaded
        first = engine.run({name: x[:1]})
        kept = {output: array.copy() for output, array in first.items()}
        engine.run({name: x[1:2]})
        for output, array in first.items():
            np.testing.assert_array_equal(array, kept[output])
            array[...] = 0
        for output, array in engine.run({name: x[:1]}).items():
            np.testing.assert_array_equal(array, kept[output])

    def test_arrays_may_lie_in_memory_as_they_like(self, loaded: tuple[Engine, str, NDArray[Any]]) -> None:
        engine, name, x = loaded
        for odd in (np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, axis=-1)[..., ::2]):
            for output, array in engine.run({name: odd}).items():
                np.testing.assert_allclose(array, engine.run({name: x})[output], rtol=1e-6)

    def test_a_closed_engine_says_so(self, loaded: tuple[Engine, str, NDArray[Any]]) -> None:
        engine, name, x = loaded
        engine.close()
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            engine.run({name: x})

    @pytest.mark.parametrize("model", GARBAGE, ids=lambda model: repr(model[:8]))
    def test_garbage_for_a_model_is_refused_in_one_line(self, name: str, model: bytes) -> None:
        with pytest.raises(EngineError, match=f"^{name} .* cannot load the model: ") as caught:
            load(model, name)
        assert not isinstance(caught.value, EngineNotInstalled)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_several_outputs_come_under_their_names() -> None:
    nodes = [helper.make_node("Neg", ["a"], ["p"]), helper.make_node("Add", ["a", "b"], ["q"])]
    model = onnx_bytes(nodes, [tensor("a", 2), tensor("b", 2)], [tensor("q", 2), tensor("p", 2)])
    got = load(model, "onnxruntime").run({"b": np.ones(2, np.float32), "a": np.full(2, 3, np.float32)})
    assert {name: array.tolist() for name, array in got.items()} == {"q": [4, 4], "p": [-3, -3]}


class TestShare:
    """How many of the model's nodes the provider runs."""

    def test_nodes_are_counted_by_provider_and_those_of_a_loop_once(self) -> None:
        def node(provider: str, name: str, index: str) -> dict[str, Any]:
            args = {"provider": provider, "node_index": index}
            return {"cat": "Node", "name": f"{name}_kernel_time", "args": args}

        events: list[dict[str, Any]] = [
            {"cat": "Session", "name": "model_run"},
            {"cat": "Node", "name": "a_fence_before", "args": {"op_name": "Conv"}},
            *(node("Cuda", name, "0") for name in ("a", "b", "b", "b")),
            *(node("Cpu", "", index) for index in ("3", "4")),
        ]
        assert ort_profile.nodes_by_provider(events) == {"Cuda": 2, "Cpu": 2}

    def test_a_provider_that_takes_no_node(self) -> None:
        engine = load(linear(1), "onnxruntime", 1, "AzureExecutionProvider", "CPUExecutionProvider")
        assert engine.provider == "AzureExecutionProvider"
        assert engines.share(engine, linear(1), {"x": samples()[0]}) == 0.0
        assert engines.share(load(linear(1), "onnxruntime"), linear(1), {}) == 1.0

    def test_an_int8_model_s_ends_stay_outside_xnnpack(self) -> None:
        engine, name, shape = tflite(quantized(RESNET))
        share = engines.share(engine, b"", {})
        assert engine.provider == "XNNPACK"
        assert share is not None
        assert 0.5 < share <= 1.0
        engine.run({name: noise((2, *shape))})  # of another batch, for which it is delegated anew
        assert engines.share(engine, b"", {}) == share

    def test_an_engine_that_cannot_tell(self) -> None:
        class Other:
            name, version, provider = "other", "1", "npu"

        assert engines.share(Other(), b"", {}) is None  # type: ignore[arg-type]
