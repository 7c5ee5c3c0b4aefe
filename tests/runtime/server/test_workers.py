"""Workers: what they answer, and that whatever becomes of one, everybody gets an answer and the next one serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit_runtime import blackbox, processes, releases
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import STAGES
from edgekit_server import page, service, wire
from edgekit_server.http import Response
from edgekit_server.resident import MOST_BACKOFF_S, pause_s
from edgekit_server.wire import TF_SERVING
from edgekit_server.workers import Inquiry
from tests.runtime.bundles import APP, Parcels, go_live, samples, try_out, weights
from tests.runtime.server.house import CRASH, HANG, RAISE, SLOW, House, binary, row, stopped

ROOT = Path(__file__).parents[3]
X = samples()[0]
Open = Callable[..., House]
Made = Callable[..., Bundle]


class TestAnswers:
    def test_in_both_dialects(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        go_live(parcels.one, home)
        house = open_house()
        house.ready()
        got = house.answer(X, id="a")
        np.testing.assert_allclose(got.y, X @ weights(1), rtol=1e-5)
        assert (got.status, got.document["model_name"], got.document["model_version"]) == (200, APP, "1")
        text = json.dumps({"instances": X.tolist()}).encode()
        told = house.first(house.put(text, None, dialect=TF_SERVING))
        assert told.headers == {"Content-Type": "application/json"}
        np.testing.assert_allclose(told.document["predictions"], X @ weights(1), rtol=1e-5)
        house.close()
        assert sum(window.count for window in Spool(home / "reports" / APP).windows()) == 2

    def test_what_cannot_be_taken(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        go_live(parcels.one, home)
        house = open_house()
        serving = house.ready()
        assert house.first(house.put(b"{", None)).status == 400
        assert house.first(house.put(b"", None)).status == 400
        assert house.first(house.put(b"{}", 900)).status == 400
        assert house.first(house.put(X.tobytes() * 3, 0)).y.shape == (3, 3)  # a tensor without JSON
        assert house.first(house.put(X.tobytes()[:-1], 0)).status == 400
        assert house.answer(X[:, :2]).error == "input x: float32 [N, 4]: got shape [1, 2]"
        assert house.answer(X, version="7").status == 404
        assert house.first(house.put(bytes(1 << 20), None)).status == 413
        assert house.residents.find(APP).counts.times["fail"] == 5
        assert house.ready() is serving

    def test_those_that_wait_share_a_run(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        with stopped(house.ready()):
            asked = [house.ask(row(i)) for i in range(40)]
        house.until(lambda: all(asked))
        for i, got in enumerate(asked):
            np.testing.assert_array_equal(got[0].y, [[2 * i, 2, 4]])
        counts = house.residents.find(APP).counts
        assert counts.samples == 40
        assert len(counts.runs) > 1
        assert sum(run.times["compute_infer"] for run in counts.runs.values()) < 25

    @pytest.mark.slow
    def test_more_than_may_wait_are_told_to_come_again(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        house.ready()
        asked = [house.ask(row(SLOW)) for _ in range(page.SLOTS + 3)]
        assert [got[0].status for got in asked[-3:]] == [503] * 3
        assert asked[-1][0].headers["Retry-After"] == "1"
        late = house.ask(row(1.0))
        assert late[0].status == 503
        house.residents.find(APP).unload("")  # what waits is answered, however it is
        house.until(lambda: all(asked))
        assert {got[0].status for got in asked[:-3]} == {200}

    def test_a_request_whose_time_is_over(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        with stopped(house.ready()):
            slow, hasty = house.ask(row(SLOW)), house.ask(row(1.0, 2), timeout=1000)
            time.sleep(0.01)
        assert (house.first(slow).status, house.first(hasty).status) == (200, 504)
        assert hasty[0].error.startswith("the time of the request was over")

    def test_what_was_asked_before(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house(cache_bytes=1 << 20)
        house.ready()
        first, again = house.answer(row(SLOW)), house.answer(row(SLOW))
        assert first.body == again.body
        counts = house.residents.find(APP).counts
        assert (counts.times["cache_hit"], counts.times["compute_infer"]) == (1, 1)
        house.close()
        (window,) = Spool(home / "reports" / APP).windows()
        assert (window.count, window.counters) == (1, {"cache_hits": 1, "cache_misses": 1})
        assert {name: sum(each.values()) for name, each in window.stages.items()} == dict.fromkeys(STAGES, 1)


class TestTrouble:
    @pytest.mark.parametrize(
        ("omen", "timeout_s", "status", "why"),
        [(CRASH, 60.0, 500, "SIGSEGV"), (HANG, 2.0, 504, "did not answer for 2 s")],
    )
    def test_a_kernel_takes_its_process(
        self, home: Path, moody: Made, open_house: Open, omen: float, timeout_s: float, status: int, why: str
    ) -> None:
        go_live(moody(2), home)
        house = open_house(timeout_s=timeout_s)
        before = house.ready()
        first = house.ask(row(omen))
        other = np.full((1, 4), 5, np.float32)
        waits = [house.put(json.dumps(document(other)).encode(), None) for _ in range(2)]
        house.until(lambda: first and all(waits))
        assert first[0].status == status
        assert why in first[0].error
        assert {got[0].status for got in waits} <= {status, 503}  # in the same run, or not yet in one
        assert house.ready() is not before
        np.testing.assert_array_equal(house.answer(row(3.0)).y, [[6, 2, 4]])

    def test_who_is_answered_may_ask_again_at_once(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        house.ready()
        got: list[int] = []

        def again(response: Response) -> None:
            got.append(response.status)
            if len(got) < 3:
                house.residents.ask(APP, Inquiry(*asks(row(1.0)), again))

        house.residents.ask(APP, Inquiry(*asks(row(CRASH)), again))
        house.until(lambda: len(got) == 3)
        assert got == [500, 200, 200]

    @pytest.mark.slow
    def test_what_only_waited_is_told_to_come_again(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        house.ready()
        blocks, crash = house.ask(row(SLOW)), house.ask(row(CRASH))
        last = house.ask(row(1.0), priority=9)
        house.until(lambda: blocks and crash and last)
        assert (blocks[0].status, crash[0].status) in ((200, 500), (500, 500))
        assert last[0].status in (500, 503)

    def test_killed_from_outside(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        go_live(parcels.one, home)
        house = open_house()
        serving = house.ready()
        os.kill(serving.pid, signal.SIGKILL)
        house.until(lambda: serving.ended)
        assert serving.error == "it ended with SIGKILL"
        np.testing.assert_allclose(house.answer(X).y, X @ weights(1), rtol=1e-5)  # it waits for the next one

    def test_a_mistake_in_an_engine(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        serving = house.ready()
        got = house.answer(row(RAISE))
        assert (got.status, got.error) == (500, "RuntimeError in the worker; its log tells more")
        assert house.answer(row(1.0)).status == 200
        assert house.ready() is serving

    @pytest.mark.slow
    def test_three_crashes_in_the_trial_bring_the_one_before_back(
        self, home: Path, moody: Made, open_house: Open
    ) -> None:
        go_live(moody(2), home)
        bad = try_out(moody(3, engines=(EngineNeed("moody", providers=("dead",), threads=3),)), home)
        house = open_house()
        first = house.ask(row(1.0))
        house.until(lambda: house.residents.find(APP).failures == 2)
        assert first[0].status == 503
        assert house.ask(row(1.0))[0].headers["Retry-After"] == "1"
        house.ready()
        np.testing.assert_array_equal(house.answer(row(1.0)).y, [[2, 2, 4]])
        assert releases.find(home, APP, bad.digest).state.code == "failed_starts"
        assert blackbox.read(home, APP)[-1].what == "rolled_back"

    @pytest.mark.slow
    def test_crashes_of_requests_count_in_the_trial_too(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        try_out(moody(3), home)
        house = open_house()
        for _ in range(3):
            house.ready()
            assert house.answer(row(CRASH)).status == 500
        house.until(lambda: house.residents.find(APP).version == "2" and house.residents.find(APP).serving)
        np.testing.assert_array_equal(house.answer(row(1.0)).y, [[2, 2, 4]])

    def test_pauses_get_longer_up_to_a_limit(self) -> None:
        pauses = [pause_s(failures) for failures in range(30)]
        assert pauses[:5] == [0, 0, 0.5, 1, 2]
        assert pauses == sorted(pauses)
        assert pauses[-1] == MOST_BACKOFF_S

    @pytest.mark.parametrize("omen", [1.0, pytest.param(HANG, marks=pytest.mark.slow)])
    def test_the_front_is_gone(self, home: Path, moody: Made, omen: float) -> None:
        """A worker that hangs ends itself."""
        go_live(moody(2), home)
        code = (
            "from pathlib import Path\n"
            "from tests.runtime.server.house import House, row\n"
            "from edgekit_server.launch import Terms\n"
            f"house = House(Path({str(home)!r}), Terms(Path({str(home)!r}), 0.5))\n"
            f"worker = house.ready(); house.ask(row({omen})); print(worker.pid, flush=True); input()"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, cwd=ROOT) as front:
            assert front.stdout
            pid = int(front.stdout.readline())
            began = processes.started(pid)
            assert began
            front.kill()
        end = time.monotonic() + (30 if omen == 1.0 else service.GRACE_S + 30)
        while processes.started(pid) == began:
            assert time.monotonic() < end, "the worker outlives its front"
            time.sleep(0.01)


def asks(x: np.ndarray) -> tuple[bytes, int, int]:  # type: ignore[type-arg]
    body, length = binary(x)
    return body, wire.OIP, length


def document(x: np.ndarray) -> dict[str, object]:  # type: ignore[type-arg]
    return {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}


def test_the_front_loads_neither_numpy_nor_an_engine() -> None:
    code = "import sys, edgekit_server.residents; print({'numpy', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_dialects_have_their_places() -> None:
    from edgekit_server import inference, oip, tfserving

    assert inference.DIALECTS[wire.OIP] is oip
    assert inference.DIALECTS[wire.TF_SERVING] is tfserving


def test_a_tensor_is_aligned_in_its_slot(home: Path, parcels: Parcels, open_house: Open) -> None:
    body, length = binary(X)
    question = wire.Question(0, 0, length, len(body), 0)
    assert (question.start + length) % 64 == 0
    assert wire.question(question.pack()) == question
