"""Bench: what a device's windows come to; and a real model on this machine, measured as a person does."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgekit import fleet
from edgekit.bench import measuring as benching
from edgekit.bench.figures import Bench, Part, judged
from edgekit.bench.measuring import Order
from edgekit.bench.percentiles import Percentile, percentiles
from edgekit.cli import bench as cli
from edgekit.errors import CommandError, DeviceError
from edgekit.fleet import Device
from edgekit.transports import Completed
from edgekit.transports.feed import Feed
from edgekit.transports.talk import Talk
from edgekit_runtime.histogram import index
from edgekit_runtime.windows import Window, dump
from tests.lab.project import EDGEKIT, project, tree, until
from tests.lab.sshd import needs_sshd, running
from tests.runtime.bundles import APP, contents, go_live, make_key, tflite_contents, write

__all__ = ["project"]  # a fixture

ENGINE = {"name": "litert", "version": "2", "provider": "XNNPACK"}
FACTS = {
    "release": "sha256:" + "1" * 64,
    "version": "1",
    "precision": "int8",
    "engine": ENGINE,
    "degraded": None,
    "budget": {"max_p95_ms": 6.0},
    "starts": [(20_000_000 + start, 7_000_000) for start in range(10)],
}
Answers = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]


class Board:
    """A transport to a device that gets hot after a while: 5 ms a call, then 8."""

    def __init__(self, hot_s: float = math.inf, layers: Any = None, **facts: Any) -> None:
        self.facts, self.hot_s, self.layers = {**FACTS, **facts}, hot_s, layers
        self.now_s = 0.0
        self.asked: list[float] = []
        self.answers: Answers = self.measured

    def talk(self, argv: list[str]) -> Talk:
        assert argv[-2:] == ["bench", "digits"]
        return Talk(self._run)

    def _run(self, feed: Feed) -> Completed:
        feed.answered(json.dumps(self.facts).encode() + b"\n")
        for line in feed:
            for answer in self.answers(json.loads(line)):
                feed.answered(json.dumps(answer).encode() + b"\n")
        feed.ended()
        return Completed((), 0, b"", b"")

    def measured(self, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "layers" in asked:
            yield {"layers": self.layers}
            return
        self.asked.append(asked["seconds"])
        number = round(asked["seconds"] / asked["window_s"])
        for at in range(number):
            yield {"window": self._window(asked["window_s"]), "more": at < number - 1, "programs": {"python": 0.3}}

    def _window(self, seconds: float) -> dict[str, Any]:
        is_hot, begun = self.now_s >= self.hot_s, self.now_s
        self.now_s += seconds
        ms = 8 if is_hot else 5
        buckets = {index(ms * 1_000_000): int(seconds * 800 / ms), index(ms * 1_100_000): int(seconds * 200 / ms)}
        state = {"temperature_c": 85.0 if is_hot else 55.0, "throttled": float(is_hot), "others_share": 0.02}
        window: dict[str, Any] = json.loads(
            dump(
                Window("digits", FACTS["release"], "bench", 0, 1e9 + begun, 1e9 + self.now_s, buckets, conditions=state)
            )
        )
        return window


def measure(board: Any, order: Order = Order()) -> Bench:
    return benching.bench(board, "digits", order, lambda line: None)


def near(ms: float) -> Any:
    return pytest.approx(ms, rel=0.011)


class TestBench:
    """What comes of a device's windows."""

    def test_a_short_run(self) -> None:
        found = measure(Board())
        assert found.warm.percentiles["p50"]
        assert found.warm.percentiles["p50"].ms == near(5)
        assert len(found.warm.windows) == 20
        assert found.sustained is None
        assert found.verdict.ok
        assert "no sustained figure" in found.verdict.notes[0]
        assert found.facts.load["p50"]
        assert found.facts.load["p50"].ms == near(20)
        assert found.facts.load["p99"] is None

    def test_the_heat_decides(self) -> None:
        board = Board(hot_s=200)
        found = measure(board, Order(600.0))
        assert max(board.asked) == 60
        assert sum(board.asked) == 610
        assert found.sustained
        assert 390 <= found.sustained.seconds <= 415
        assert found.settled
        assert found.sustained.percentiles["p95"]
        assert found.sustained.percentiles["p95"].ms == near(8.8)
        assert not found.verdict.ok
        assert found.verdict.reasons[0].endswith("allowed are 6")
        assert str(found.conditions) == "throttled 67 % of the run; 55 to 85 °C"

    def test_one_that_is_still_changing(self) -> None:
        found = measure(Board(hot_s=500), Order(600.0))
        assert not found.settled
        assert "still changing" in found.verdict.notes[0]
        assert not found.verdict.ok

    def test_a_device_that_stays_cool_holds_the_budget(self) -> None:
        found = measure(Board(), Order(60.0, layers=True))
        assert found.verdict.ok
        assert not found.verdict.notes
        assert found.layers
        assert "LiteRT" in (found.layers.note or "")
        assert found.sustained
        assert found.sustained.seconds == pytest.approx(60)

    def test_what_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli._show("kitchen", measure(Board(hot_s=200), Order(600.0, layers=True)))
        shown = capsys.readouterr().out
        assert "sustained" in shown
        assert "throttled 67 % of the run" in shown
        assert "refused: the budget's latency is broken" in shown
        assert "no layers: LiteRT's Python" in shown

    @pytest.mark.parametrize(
        "facts", [{"starts": []}, {"starts": [1]}, {"engine": None}, {"budget": []}, {"release": 1}, {"degraded": 3}]
    )
    def test_facts_that_are_none(self, facts: dict[str, Any]) -> None:
        with pytest.raises(DeviceError, match="unusable"):
            measure(Board(**facts))

    @pytest.mark.parametrize(
        "answer", [{"more": True}, {"window": {}, "more": True, "programs": {}}, {"window": 1, "more": False}]
    )
    def test_windows_that_are_none(self, answer: dict[str, Any]) -> None:
        board = Board()
        board.answers = lambda asked: iter([answer])
        with pytest.raises(DeviceError, match="unusable|answers without"):
            measure(board)

    def test_a_device_that_ends_in_the_midst(self) -> None:
        board = Board()
        board.answers = lambda asked: _raised(EOFError())
        with pytest.raises((CommandError, EOFError)):
            measure(board)

    def test_what_the_device_refuses(self) -> None:
        refusal = {"code": "device", "message": "this device is emulated: its times are no latencies", "hint": None}
        with pytest.raises(DeviceError, match="emulated"):
            measure(Board(error=refusal))


def _raised(error: Exception) -> Iterator[dict[str, Any]]:
    yield from ()
    raise error


def p95(ms: float, low: float | None, high: float | None) -> dict[str, Percentile | None]:
    return {"p95": Percentile(ms, low, high)}


@pytest.mark.parametrize(
    ("limit", "sustained", "ok", "note"),
    [
        (5.0, p95(4.0, 3.9, 4.1), True, ""),
        (5.0, p95(4.9, 4.8, 5.1), True, "within the interval"),
        (5.0, p95(5.1, 4.9, 5.2), False, "within the interval"),
        (5.0, p95(5.1, 4.9, None), False, "within the interval"),
        (5.0, p95(6.0, 5.9, 6.1), False, ""),
        (5.0, {"p95": None}, True, "too few calls"),
        (5.0, None, True, "max_p95_ms was not judged"),
        (math.inf, None, True, "no sustained figure"),
        (math.inf, p95(6.0, 5.9, 6.1), True, ""),
    ],
)
def test_the_budget_is_held_against_what_is_sustained(limit: float, sustained: Any, ok: bool, note: str) -> None:
    found = judged(limit, sustained, settled=True)
    assert found.ok is ok
    assert (note in " ".join(found.notes)) if note else not found.notes


def test_a_part_without_a_call_has_no_figures() -> None:
    assert Part(()).as_dict()["calls_per_s"] is None
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}


def equip(home: Path, place: Path) -> None:
    """A device's home that serves two models, and runs this interpreter."""
    signer = make_key(place / "key")
    (home / "trust").mkdir(parents=True)
    (home / "trust/allowed_signers").write_text(f"{signer.allowed_line()}\n")
    go_live(write(place / "bundles/1", signer, contents(budget={"max_p95_ms": 1e-4})), home)
    go_live(write(place / "bundles/2", signer, tflite_contents("litert", app="images")), home)
    (home / "env/bin").mkdir(parents=True)
    (home / "env/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (home / "env/bin/python").chmod(0o755)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a device of the project, this machine."""
    home = tmp_path / "home"
    monkeypatch.setenv("EDGEKIT_HOME", str(home))
    equip(home, tmp_path)
    monkeypatch.chdir(tmp_path)
    fleet.add(tmp_path, Device("desk", f"local:{home}", "generic-x86-64"))
    monkeypatch.setattr(benching, "WARM_S", 0.5)
    monkeypatch.setattr(benching, "WARM_WINDOW_S", 0.025)
    monkeypatch.setattr(cli, "LEAST_S", 1.0)
    return home


def invoke(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(cli.bench, [*words, "--json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout else done.exception


@pytest.mark.slow
class TestCommand:
    """`edgekit bench` for a device that is this machine."""

    def test_a_budget_that_is_broken(self, desk: Path) -> None:
        before = tree(desk)
        status, told = invoke("desk", "--app", APP, "--sustain", "2s", "--layers")
        assert status == 3
        assert told["verdict"]["reasons"]
        assert told["sustained"]["latency_ms"]["p95"]["low"] > 1e-4
        assert {window["part"] for window in told["windows"]} == {"warm", "load"}
        assert [op["op"] for op in told["layers"]["ops"]] == ["MatMul"]
        assert tree(desk) == before

    def test_litert_and_a_short_run(self, desk: Path) -> None:
        status, told = invoke("desk", "--app", "images", "--layers")
        assert status == 0
        assert told["sustained"] is None
        assert told["engine"]["name"] == "litert"
        assert "does not time" in told["layers"]["note"]
        assert told["warm"]["latency_ms"]["p50"]["ms"] > 0.01

    def test_it_says_who_takes_the_processor(self, desk: Path) -> None:
        pid = os.spawnlp(os.P_NOWAIT, sys.executable, sys.executable, "-c", "while True: pass")
        try:
            _, told = invoke("desk", "--app", APP)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        assert told["conditions"]["others_share"] > 0.05
        assert "busy: others took" in told["conditions"]["told"]

    def test_so_little_time_is_refused(self, desk: Path) -> None:
        status, error = invoke("desk", "--app", APP, "--sustain", "0.5s")
        assert status == 1
        assert "nothing gets hot" in str(error)


@pytest.mark.slow
@needs_sshd
@pytest.mark.parametrize("cut", [signal.SIGINT, signal.SIGKILL])
def test_a_host_that_goes_leaves_nothing_and_nobody_at_work(project: Path, cut: signal.Signals) -> None:
    with running("pi", project / ".edgekit/devices") as device:
        fleet.add(project, Device("pi", device.uri, "generic-x86-64"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEKIT_HOME", str(device.home))
            equip(device.home, project)
        before = tree(device.home)
        words = [*EDGEKIT, "bench", "pi", "--app", APP, "--sustain", "10m"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            while "warm: " not in process.stderr.readline():
                pass
            assert measuring(device.home)
            process.send_signal(cut)
        until(lambda: not measuring(device.home))
        assert tree(device.home) == before


def measuring(home: Path) -> bool:
    """Whether a bench of this home runs."""
    return any(
        b"bench" in cmdline.split(b"\0") and b"edgekit_runtime" in cmdline and str(home).encode() in environment
        for cmdline, environment in map(told_of, Path("/proc").glob("[0-9]*"))
    )


def told_of(process: Path) -> tuple[bytes, bytes]:
    try:
        return (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
    except OSError:
        return b"", b""
