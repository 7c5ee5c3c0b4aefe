"""What a device measures of itself, and how it ends."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit_runtime import engines, host
from edgekit_runtime.__main__ import main
from edgekit_runtime.engines import ort_profile
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.windows import Window, dump, parse
from edgekit_watch import bench
from edgekit_watch.bench import Run
from edgekit_watch.busy import Others
from edgekit_watch.sensors import Sensors
from tests.lab.project import tree
from tests.runtime.bundles import APP, Parcels, go_live, linear, samples, try_out

BENCH = [sys.executable, "-m", "edgekit_runtime", "bench", APP]
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
SOON_S = 60.0

Say = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "listens", lambda: True)


def a_run(seconds: float = 0.0) -> Run:
    return Run(APP, "sha256:0", lambda: time.sleep(seconds))


class TestRun:
    """Windows of calls, each with the machine's state."""

    @pytest.mark.usefixtures("listened_to")
    def test_calls_are_counted_one_by_one_and_windows_in_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a clock on which a call takes 2 ms, and nothing else any time."""
        now_ns = [0]

        def call() -> None:
            now_ns[0] += 2_000_000

        clock = SimpleNamespace(
            time=lambda: 1.8e9, perf_counter=lambda: now_ns[0] / 1e9, perf_counter_ns=lambda: now_ns[0]
        )
        monkeypatch.setattr(bench, "time", clock)
        run = Run(APP, "sha256:0", call)
        first, second = run.window(0.03, Others()), run.window(0.03, Others())
        assert (first.count, second.count, now_ns) == (15, 15, [60_000_000])
        assert (first.seq, second.seq) == (0, 1)
        assert first.start_s < first.end_s <= second.start_s
        assert first.end_s - first.start_s == pytest.approx(0.03, abs=1e-5)
        assert parse(dump(first)) == first

    @pytest.mark.usefixtures("listened_to")
    def test_one_call_at_least_however_long_it_takes(self) -> None:
        assert a_run(0.01).window(0.001, Others()).count == 1

    @pytest.mark.usefixtures("listened_to")
    def test_a_machine_that_throttles_on_the_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sensors = board(tmp_path, celsius=61.0, throttled="0")
        monkeypatch.setattr(bench, "Sensors", lambda: Sensors(sensors))
        run = a_run()
        cool = run.window(0.001, Others()).conditions
        board(tmp_path, celsius=85.0, throttled="50005")
        hot = run.window(0.001, Others()).conditions
        assert (cool["temperature_c"], cool["throttled"], cool["under_voltage"]) == (61, 0, 0)
        assert (hot["temperature_c"], hot["throttled"], hot["under_voltage"]) == (85, 1, 1)
        assert 0 <= hot["others_share"] <= 1

    def test_it_ends_as_soon_as_the_host_has_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host, "listens", lambda: False)
        with pytest.raises(DeviceError, match="gone"):
            a_run(0.001).window(60, Others())


def board(root: Path, celsius: float, throttled: str) -> Path:
    files = {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": f"{celsius * 1000:.0f}\n",
        THROTTLED: f"{throttled}\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def say(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Say:
    """What the command answers, in this process, to a host that says all of this at once."""

    def said(*documents: dict[str, Any]) -> list[dict[str, Any]]:
        lines = "".join(f"{json.dumps(document)}\n" for document in documents).encode()
        monkeypatch.setattr(sys, "argv", ["edgekit-runtime", "bench", APP])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        capfdbinary.readouterr()
        main()
        return [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]

    return said


def heed_ctrl_c() -> None:
    """Who starts tests in the background may have them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class TestConversation:
    """The command, with a host at the other end."""

    def test_what_it_tells(self, home: Path, parcels: Parcels, say: Say) -> None:
        go_live(parcels.one, home)
        before = tree(home)
        facts, *told, layers, end = say({"seconds": 0.1, "window_s": 0.025}, {"layers": True})
        assert (facts["release"], facts["engine"]["name"]) == (parcels.one.digest, "onnxruntime")
        assert len(facts["starts"]) == bench.STARTS
        assert all(load > 0 < call for load, call in facts["starts"])
        assert [each["more"] for each in told] == [*[True] * (len(told) - 1), False]
        heard: list[Window] = [parse(json.dumps(each["window"])) for each in told]
        assert all(window.count for window in heard)
        assert [layer["op"] for layer in layers["layers"]] == ["MatMul"]
        assert end == {"schema_version": 1}
        assert tree(home) == before

    def test_a_release_on_trial_is_neither_started_nor_judged(self, home: Path, parcels: Parcels, say: Say) -> None:
        try_out(parcels.one, home)
        before = tree(home)
        say({"seconds": 0.01, "window_s": 0.01})
        assert tree(home) == before

    @pytest.mark.parametrize(
        "cut",
        [
            "output",
            pytest.param("input and output", marks=pytest.mark.slow),
            pytest.param("us", marks=pytest.mark.slow),
        ],
    )
    def test_whatever_cuts_it_short_ends_it_at_once_and_leaves_nothing(
        self, home: Path, parcels: Parcels, cut: str
    ) -> None:
        go_live(parcels.one, home)
        before = tree(home)
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(BENCH, **pipes, preexec_fn=heed_ctrl_c) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline()
            process.stdin.write(b'{"seconds": 600, "window_s": 300}\n')
            process.stdin.flush()
            time.sleep(0.1)
            if cut == "us":
                process.send_signal(signal.SIGINT)
            else:
                process.stdout.close()
            if cut == "input and output":
                process.stdin.close()
            assert process.wait(SOON_S) != 0
        assert tree(home) == before

    def test_one_that_is_asked_nothing_has_ended(self, home: Path, parcels: Parcels, say: Say) -> None:
        go_live(parcels.one, home)
        assert len(say()) == 2

    @pytest.mark.parametrize("asked", [{}, {"seconds": 0, "window_s": 1}, {"seconds": "1", "window_s": 1}])
    def test_what_no_host_asks(self, home: Path, parcels: Parcels, say: Say, asked: dict[str, Any]) -> None:
        go_live(parcels.one, home)
        assert say(asked)[-1]["error"]["code"] == "device"

    def test_an_emulator_is_not_measured(
        self, home: Path, parcels: Parcels, say: Say, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_live(parcels.one, home)
        monkeypatch.setenv("QEMU_CPU", "cortex-a72")
        [answer] = say({"seconds": 1, "window_s": 1})
        assert "emulated" in answer["error"]["message"]

    def test_nothing_is_live(self, home: Path, say: Say) -> None:
        [answer] = say()
        assert answer["error"]["code"] == "not_installed"


class TestLayers:
    """What an engine tells of single nodes."""

    def test_onnxruntime_tells_of_every_node(self) -> None:
        engine = engines.load(linear(1), [EngineNeed("onnxruntime")])
        [node] = engines.layers(engine, linear(1), {"x": np.concatenate(samples())}) or []
        assert (node["op"], node["provider"]) == ("MatMul", "CPUExecutionProvider")
        assert node["ms"] >= 0

    def test_the_faster_half_of_the_calls_counts_and_never_the_first(self) -> None:
        events = [
            *call(0, node("a", 900), node("b", 900)),
            *call(10_000, node("a", 10), node("b", 30)),
            *call(20_000, node("a", 20), node("b", 30)),
            *call(30_000, node("a", 500), node("b", 500)),
            {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5},
        ]
        found = ort_profile.time_by_node(events)
        assert [(each["name"], each["ms"]) for each in found] == [("b", 0.03), ("a", 0.015)]

    def test_a_loop_is_told_by_its_nodes(self) -> None:
        events = [*call(0), *call(1000, node("l", 90, "Loop"), node("in", 40, "Add"), node("in", 40, "Add"))]
        [found] = ort_profile.time_by_node(events)
        assert (found["name"], found["ms"]) == ("in", 0.08)

    def test_a_profile_without_a_call(self) -> None:
        assert ort_profile.time_by_node([]) == []


def node(name: str, microseconds: int, op: str = "Conv") -> dict[str, Any]:
    told = {"op_name": op, "provider": "cpu", "node_index": "1"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": told}


def call(at: int, *nodes: dict[str, Any]) -> list[dict[str, Any]]:
    run = {"cat": "Session", "name": "model_run", "ts": at, "dur": sum(each["dur"] for each in nodes)}
    return [run, *({**each, "ts": at + 1 + number} for number, each in enumerate(nodes))]
