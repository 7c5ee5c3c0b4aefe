"""Many calls at once: futures, streams in order with errors in their place, warm-up, and outputs that are lent."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

import edgekit_runtime
from edgekit_postprocess import Postprocess, Step
from edgekit_runtime import session as module
from edgekit_runtime.engines import Engine
from edgekit_runtime.errors import EngineError, InvalidInput, Overloaded
from edgekit_runtime.histogram import percentile
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.pipeline import AHEAD, Pipeline
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.session import MOST_WAITING, Session
from edgekit_runtime.spool import Spool
from edgekit_runtime.tensors import TensorSpec
from edgekit_runtime.windows import STAGES
from tests.runtime.bundles import (
    APP,
    INTERFACE,
    Parcels,
    go_live,
    linear,
    onnx_bytes,
    samples,
    tensor,
    tflite_contents,
    weights,
)

ONNX = (EngineNeed("onnxruntime"),)
X = samples()[0]
MANY = [np.full((1, 4), number, np.float32) for number in range(50)]
TIMEOUT_S = 30


def right(answer: dict[str, Any], x: Any) -> bool:
    return np.allclose(answer["y"], x @ weights(1), rtol=1e-5, atol=1e-5)


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(linear(1), INTERFACE, ONNX) as made:
        yield made


@pytest.fixture(scope="module")
def images() -> Iterator[Session]:
    """A trained model of LiteRT behind a resize, so that preprocessing has a thread of its own."""
    manifest = tflite_contents("litert").manifest
    interface = replace(manifest.interface, preprocess={"image": Preprocess((32, 32))})
    with Session(tflite_contents("litert").model, interface, manifest.engines) as made:
        yield made


class Before:
    """An engine that does something before each run."""

    name, version, provider = "before", "", "cpu"

    def __init__(self, engine: Engine, do: Callable[[], object]) -> None:
        self._engine, self._do, self.runs = engine, do, 0

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        self.runs += 1
        self._do()
        return self._engine.run(feeds)

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True)
class Held:
    """An engine that waits before each run until it may go on."""

    engine: Before
    go: threading.Event


@pytest.fixture
def held(session: Session) -> Iterator[Held]:
    go = threading.Event()
    session._engine = engine = Before(session.engine, lambda: go.wait(TIMEOUT_S))
    yield Held(engine, go)
    go.set()


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + TIMEOUT_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)
    return holds()


class TestFutures:
    def test_each_has_the_answer_of_its_call(self, session: Session) -> None:
        futures = [session.predict_async(x) for x in MANY]
        assert all(right(future.result(TIMEOUT_S), x) for future, x in zip(futures, MANY, strict=True))

    def test_it_returns_before_the_model_has_run(self, session: Session, held: Held) -> None:
        future = session.predict_async(X)
        assert not future.done()
        held.go.set()
        assert right(future.result(TIMEOUT_S), X)

    def test_errors_come_with_the_future(self, session: Session) -> None:
        futures = [session.predict_async(x) for x in (X, X[0], X)]
        assert isinstance(futures[1].exception(TIMEOUT_S), InvalidInput)
        assert all(right(futures[place].result(TIMEOUT_S), X) for place in (0, 2))

    def test_too_many_are_refused_and_the_rest_goes_on(self, session: Session, held: Held) -> None:
        futures = [session.predict_async(X) for _ in range(MOST_WAITING)]
        with pytest.raises(Overloaded, match=f"{MOST_WAITING} calls are under way"):
            session.predict_async(X)
        held.go.set()
        assert all(right(future.result(TIMEOUT_S), X) for future in futures)
        assert right(session.predict_async(X).result(TIMEOUT_S), X)

    def test_one_that_waits_can_be_cancelled(self, session: Session, held: Held) -> None:
        first, second = session.predict_async(X), session.predict_async(X)
        assert until(lambda: held.engine.runs == 1)
        assert second.cancel()
        held.go.set()
        assert right(first.result(TIMEOUT_S), X)
        session.close()
        assert held.engine.runs == 1

    def test_closing_finishes_what_is_under_way(self, session: Session) -> None:
        futures = [session.predict_async(x) for x in MANY]
        session.close()
        assert all(right(future.result(0), x) for future, x in zip(futures, MANY, strict=True))
        with pytest.raises(EngineError, match="closed"):
            session.predict_async(X).result(TIMEOUT_S)
        session.close()

    def test_many_threads_may_ask(self, session: Session) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda x: session.predict_async(x).result(TIMEOUT_S), MANY * 4))
        assert all(right(answer, x) for answer, x in zip(answers, MANY * 4, strict=True))


class TestStream:
    def test_it_gives_what_predict_gives_in_order(self, session: Session) -> None:
        assert all(right(answer, x) for answer, x in zip(session.stream(MANY), MANY, strict=True))

    def test_also_of_images_that_are_preprocessed(self, images: Session) -> None:
        frames = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8) for seed in range(12)]
        for answer, frame in zip(images.stream(frames), frames, strict=True):
            np.testing.assert_array_equal(answer["scores"], images.predict(frame)["scores"])

    def test_also_of_outputs_that_are_computed_in_numpy(self) -> None:
        end = Postprocess(INTERFACE.outputs, (Step("Cast", ("y",), ("half",), {"to": "float16"}),), {})
        interface = replace(INTERFACE, outputs=(TensorSpec("y", "float16", (None, 3), "half"),), postprocess=end)
        with Session(linear(1), interface, ONNX) as ended:
            answers = list(ended.stream(MANY))
        want = [(x @ weights(1)).astype(np.float16) for x in MANY]
        np.testing.assert_allclose([answer["y"] for answer in answers], want, rtol=1e-2)

    def test_nothing_gives_nothing(self, session: Session) -> None:
        assert list(session.stream([])) == []

    def test_an_error_is_raised_in_its_place_and_the_rest_comes_after_it(self, session: Session) -> None:
        stream = session.stream([X, X[0], X, {"z": X}, X])
        assert right(next(stream), X)
        with pytest.raises(InvalidInput, match="add the batch dimension"):
            next(stream)
        assert right(next(stream), X)
        with pytest.raises(InvalidInput, match="input '[xz]' is"):
            next(stream)
        assert right(next(stream), X)
        with pytest.raises(StopIteration):
            next(stream)

    def test_what_ends_the_source_is_raised_after_what_it_gave(self, session: Session) -> None:
        def broken() -> Iterator[Any]:
            yield from MANY[:3]
            raise OSError("the camera is gone")

        stream, seen = session.stream(broken()), 0
        with pytest.raises(OSError, match="the camera is gone"):
            for seen, answer in enumerate(stream, 1):
                assert right(answer, MANY[seen - 1])
        assert seen == 3
        assert list(stream) == []

    def test_a_result_comes_although_the_next_item_does_not(self, session: Session) -> None:
        more = threading.Event()

        def slow() -> Iterator[Any]:
            yield X
            more.wait(TIMEOUT_S)
            yield X

        stream = session.stream(slow())
        assert right(next(stream), X)
        assert not more.is_set()
        more.set()
        assert right(next(stream), X)

    def test_a_source_without_an_end_is_read_no_further_than_needed(self, session: Session) -> None:
        read: list[int] = []

        def endless() -> Iterator[Any]:
            while True:
                read.append(1)
                yield X

        stream = session.stream(endless())
        for _ in range(3):
            next(stream)
        time.sleep(0.05)
        assert len(read) <= 3 + AHEAD

    def test_one_that_is_left_stops_reading(self, session: Session) -> None:
        before = threading.active_count()
        for _ in session.stream(repeat(X)):
            break
        gc.collect()
        names = [thread.name for thread in threading.enumerate()]
        assert until(lambda: "edgekit-stream" not in [thread.name for thread in threading.enumerate()]), names
        assert threading.active_count() <= before + 1
        assert right(session.predict_async(X).result(TIMEOUT_S), X)

    def test_stages_work_at_the_same_time(self) -> None:
        meeting = threading.Barrier(3)  # of the last stage at the first item, the middle one at the next, and so on

        def meets_at(place: int, item: int) -> int:
            if item == place:
                meeting.wait(TIMEOUT_S)
            return item

        line = Pipeline([(partial(meets_at, 2 - stage),) for stage in range(3)])
        futures = [line.put(number, []) for number in range(5)]
        assert [future.result(TIMEOUT_S) for future in futures] == list(range(5))
        line.close()


class TestReporting:
    def test_calls_and_errors_are_counted_once(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            session.warm_up()
            assert len(list(session.stream(MANY))) == len(MANY)
            for x in (X, X[0]):
                session.predict_async(x)
            session.lend(X, lambda outputs: None)
            with pytest.raises(InvalidInput):
                session.lend(X[0], lambda outputs: None)
        (window,) = Spool(home / "reports" / APP).windows()
        assert (window.count, window.errors) == (len(MANY) + 2, {"invalid_input": 2})

    def test_waiting_is_no_latency(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            session._engine = Before(session.engine, lambda: time.sleep(0.02))
            for future in [session.predict_async(X) for _ in range(10)]:
                future.result(TIMEOUT_S)
        (window,) = Spool(home / "reports" / APP).windows()
        assert percentile(window.stages["queue"], 0.9) > 3 * percentile(window.buckets, 0.5) > 3 * 0.02e9
        assert {name: sum(each.values()) for name, each in window.stages.items()} == dict.fromkeys(STAGES, 10)


class TestWarmUp:
    def test_by_a_golden_vector_of_the_bundle(self, home: Path, parcels: Parcels) -> None:
        with edgekit_runtime.load(parcels.one.root) as session:
            assert 0 < session.warm_up() < 1
            assert [sorted(inputs) for inputs in session.samples()] == [["x"]] * 4

    def test_by_what_is_given(self, session: Session) -> None:
        assert 0 < session.warm_up(X) < 1
        with pytest.raises(InvalidInput, match="got shape"):
            session.warm_up(X[0])

    def test_there_must_be_something(self, session: Session) -> None:
        with pytest.raises(InvalidInput, match="no golden vector") as caught:
            session.warm_up()
        assert caught.value.hint == "give inputs"

    def test_it_goes_on_while_the_model_gets_faster(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, takes = [0.0], iter([9.0, 4.0, 3.0, 2.5, 0.0])
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

        def pass_time() -> None:
            clock[0] += next(takes)

        session._engine = Before(session.engine, pass_time)
        assert session.warm_up(X) == 2.5
        assert list(takes) == [0.0]


class TestCost:
    def test_of_predict_over_the_engine_with_its_latency_recorded(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        with edgekit_runtime.load(APP) as session:
            feeds = session.interface.feeds(X)
            bare = least_ns(lambda: session.engine.run(feeds))
            assert least_ns(lambda: session.predict(X)) - bare < 25_000


def least_ns(call: Callable[[], object]) -> int:
    """Of many calls: what the call takes when nothing disturbs it."""
    times = []
    for _ in range(500):
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
    return min(times)


class TestLending:
    IMAGE = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)

    @pytest.fixture
    def lender(self) -> Iterator[Session]:
        manifest = tflite_contents("litert").manifest
        with Session(tflite_contents("litert").model, manifest.interface, manifest.engines) as made:
            yield made

    def test_the_outputs_are_those_of_predict(self, session: Session, lender: Session) -> None:
        assert session.lend(X, lambda outputs: right(outputs, X))
        copied = lender.lend(self.IMAGE, lambda outputs: outputs["scores"].copy())
        np.testing.assert_array_equal(copied, lender.predict(self.IMAGE)["scores"])

    def test_they_are_the_memory_of_the_engine(self, lender: Session) -> None:
        def place(outputs: dict[str, Any]) -> tuple[int, bool, bool]:
            flags = outputs["scores"].flags
            return outputs["scores"].ctypes.data, bool(flags.owndata), bool(flags.writeable)

        assert lender.lend(self.IMAGE, place) == lender.lend(self.IMAGE, place)
        assert lender.lend(self.IMAGE, place)[1:] == (False, False)

    def test_one_that_is_kept_is_told_at_the_next_run(self, lender: Session) -> None:
        kept = lender.lend(self.IMAGE, lambda outputs: outputs["scores"][0])
        for call in (lender.predict, lambda x: lender.lend(x, len)):
            with pytest.raises(EngineError, match="reference to internal data") as caught:
                call(self.IMAGE)
            assert caught.value.hint == "an output of 'lend' was kept: copy what is to stay"
        del kept, caught
        assert lender.predict(self.IMAGE)["scores"].shape == (1, 10)

    def test_a_run_within_is_refused_and_does_not_hang(self, lender: Session) -> None:
        with pytest.raises(EngineError, match="reference to internal data"):
            lender.lend(self.IMAGE, lambda outputs: lender.predict(self.IMAGE))

    def test_others_wait_until_they_are_used(self, lender: Session) -> None:
        with ThreadPoolExecutor(1) as pool:

            def use(outputs: dict[str, Any]) -> Future[Any]:
                before = outputs["scores"].copy()
                other = pool.submit(lender.predict, self.IMAGE * 200)
                time.sleep(0.05)
                assert not other.done()
                np.testing.assert_array_equal(outputs["scores"], before)
                return other

            assert lender.lend(self.IMAGE, use).result(TIMEOUT_S)["scores"].shape == (1, 10)

    def test_what_the_use_raises_is_its_own(self, session: Session, lender: Session) -> None:
        for each, x in ((session, X), (lender, self.IMAGE)):
            with pytest.raises(ValueError, match="^mine$"):
                each.lend(x, _raise)
        assert lender.predict(self.IMAGE)["scores"].shape == (1, 10)

    def test_a_closed_session_lends_nothing(self, lender: Session) -> None:
        lender.close()
        with pytest.raises(EngineError, match="closed"):
            lender.lend(self.IMAGE, len)


def _raise(outputs: dict[str, Any]) -> None:
    raise ValueError("mine")


class TestCopies:
    WIDE = TensorSpec("x", "float32", (None, 250_000))

    def test_an_array_that_fits_reaches_the_engine_as_it_is(self, session: Session) -> None:
        assert session.interface.feeds(X)["x"] is X
        pixels = np.zeros((1, 8, 8, 3), np.uint8)
        plain = Interface((TensorSpec("x", "uint8", (None, 8, 8, 3)),), INTERFACE.outputs, {"x": Preprocess()})
        assert np.shares_memory(plain.feeds(pixels)["x"], pixels)
        assert np.shares_memory(plain.feeds(pixels[0])["x"], pixels)

    def test_onnxruntime_copies_only_what_has_gaps(self) -> None:
        node = helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=1)
        model = onnx_bytes([node], [tensor("x", None, 250_000)], [tensor("y", None, 1)])
        interface = Interface((self.WIDE,), (TensorSpec("y", "float32", (None, 1)),))
        whole = np.zeros((4, 250_000), np.float32)
        odd = np.frombuffer(bytes(whole.nbytes + 3), np.uint8)[3:].view(np.float32).reshape(whole.shape)
        with Session(model, interface, ONNX) as session:
            assert allocated(session, whole) < whole.nbytes / 10
            assert allocated(session, odd) < whole.nbytes / 10
            assert allocated(session, np.zeros((4, 500_000), np.float32)[:, ::2]) >= whole.nbytes


def allocated(session: Session, x: Any) -> int:
    """The most bytes that Python and numpy asked for at once during a call."""
    session.predict(x)
    tracemalloc.start()
    session.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
