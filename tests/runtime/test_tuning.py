"""Tuning: only what is clearly faster is taken; the cores that are big; and the whole of it with an engine that is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import attempts, engines, releases, switches, tuning
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.setting import Tuned, tuned
from tests.lab import distribution
from tests.runtime.bundles import APP, contents, install, linear, write

SHARES = st.lists(st.floats(0.01, 100), max_size=tuning.ROUNDS)
ENGINE = '''
import os
import numpy as np
from types import SimpleNamespace
from edgekit_runtime import tuning

now = [0.0]

def sleep(seconds):
    now[0] += seconds

# other tests run beside this one: what they leave of the processor is no matter of it
tuning.is_busy = lambda cores: False
tuning.time = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0], sleep=sleep)

def load(model, options):
    return Sleepy(options)

class Sleepy:
    """Twice the threads take half the time; of a kind that crashes with two."""
    name, version, provider = "{name}", "1", "cpu"

    def __init__(self, options):
        self.options = options

    def run(self, feeds):
        if self.options.threads == 2 and self.name == "brittle":
            os.kill(os.getpid(), 11)
        sleep(0.02 / self.options.threads)
        weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
        return {{"y": feeds["x"] @ weights}}

    def close(self):
        pass
'''


@given(SHARES)
def test_a_win_is_by_a_tenth_and_in_all_rounds_but_one_of_nine(shares: list[float]) -> None:
    share = tuning.clear(shares)
    assert share == 1.0 or (share <= tuning.FASTER and len(shares) >= 3 and sum(each >= 1 for each in shares) <= 1)


@given(st.lists(st.floats(0.01, 0.9), min_size=3, max_size=tuning.ROUNDS))
def test_what_wins_every_round_wins(shares: list[float]) -> None:
    assert tuning.clear(shares) == pytest.approx(float(np.median(shares)))


@pytest.mark.parametrize(
    ("shares", "kept"),
    [([0.5] * 2, True), ([0.95] * 9, True), ([0.5] * 8 + [1.2], False), ([0.5] * 7 + [1.2] * 2, True), ([], True)],
)
def test_what_is_declared_stays_when_it_may_be_chance(shares: list[float], kept: bool) -> None:
    assert (tuning.clear(shares) == 1.0) is kept


def test_the_big_cores_are_told_from_the_little_ones(tmp_path: Path) -> None:
    for cpu, capacity in enumerate([446, 446, 446, 446, 1024, 1024, 1000, 960]):
        (tmp_path / f"cpu{cpu}").mkdir()
        (tmp_path / f"cpu{cpu}" / "cpu_capacity").write_text(f"{capacity}\n")
    assert tuning.big_ones(range(8), tmp_path) == (4, 5, 6, 7)
    assert tuning.big_ones([2, 3, 4], tmp_path) == (4,)
    assert tuning.big_ones([4, 5], tmp_path) == ()
    assert tuning.big_ones(range(9), tmp_path) == ()


def test_clocks_tell_where_capacities_do_not(tmp_path: Path) -> None:
    for cpu, clock in enumerate([1800000, 2400000, 2400000]):
        (tmp_path / f"cpu{cpu}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "cpufreq" / "cpuinfo_max_freq").write_text(str(clock))
    assert tuning.big_ones(range(3), tmp_path) == ()
    (tmp_path / "cpu0" / "cpufreq" / "cpuinfo_max_freq").write_text("1500000")
    assert tuning.big_ones(range(3), tmp_path) == (1, 2)


def test_choices_are_few_and_without_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(tuning, "big_ones", lambda cpus: (6, 7))
    found = [(each.threads, each.cpus) for each in tuning.choices(Tuned("litert", 4))]
    assert found == [(2, (6, 7)), (8, ()), (2, ()), (1, ())]


def test_a_duel_ends_early_when_it_is_lost_or_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which only calls and pauses take any time."""
    now, calls = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def taking(seconds: float) -> Callable[[], object]:
        return lambda: (calls.append(seconds), sleep(seconds))

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(tuning, "time", clock)
    assert tuning.duel(taking(0.002), taking(0.004), 60.0) == 1.0
    assert (calls.count(0.002), calls.count(0.004)) == (3 * tuning.LEAST_ROUNDS, 2 * tuning.LEAST_ROUNDS)
    assert tuning.duel(taking(0.02), taking(0.001), now[0]) == 1.0
    assert not {0.02, 0.001} & set(calls)
    assert tuning.duel(taking(0.02), taking(0.001), now[0] + 0.1) == pytest.approx(0.05)
    assert calls.count(0.02) < tuning.ROUNDS


def test_threads_of_an_engine_stay_on_its_cores_and_the_caller_s_does_not() -> None:
    def allowed() -> list[set[str]]:
        lines = [Path(f"/proc/self/task/{task}/status").read_text() for task in os.listdir("/proc/self/task")]
        return [{line for line in text.splitlines() if line.startswith("Cpus_allowed_list")} for text in lines]

    cpu = min(os.sched_getaffinity(0))
    before, mine = len(allowed()), os.sched_getaffinity(0)
    need = EngineNeed("onnxruntime", "", (), 3)
    engine = engines.load(linear(1), [need], engines.EngineOptions(cpus=(cpu,)))
    assert os.sched_getaffinity(0) == mine
    assert len(allowed()) == before + 2
    assert allowed().count({f"Cpus_allowed_list:\t{cpu}"}) == (2 if len(mine) > 1 else before + 2)
    engine.close()


@pytest.fixture(params=["sleepy", "brittle"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An engine of another distribution, which every process finds."""
    name = str(request.param)
    place = distribution.engine(tmp_path / "site", name, ENGINE.format(name=name))
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.syspath_prepend(str(place))
    for each in ("is_busy", "time"):
        monkeypatch.setattr(tuning, each, getattr(tuning, each))  # the engine changes it in this process, too
    return name


def test_the_fastest_is_found_at_the_proof_kept_and_used(home: Path, signer: Signer, engine: str) -> None:
    release = install(write(home.parent / "b", signer, contents(1, engines=(EngineNeed(engine),))), home)
    proof = attempts.settle(home, release).state.proof
    assert proof["ok"]
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    if engine == "brittle":  # what is faster crashes: the proof holds as it was
        assert "tuned" not in proof
        return
    assert proof["tuned"]["threads"] >= 2
    assert 0.3 < proof["tuned"]["faster"] < 1
    switches.activate(home, APP, release.digest)
    assert releases.current(home, APP).state.proof == proof
    with edgekit_runtime.load(APP) as session:
        options: Any = session.engine.options  # type: ignore[attr-defined]
        assert options.threads == proof["tuned"]["threads"]


def test_a_program_with_fewer_cores_gets_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    needs = [EngineNeed("litert", threads=2), EngineNeed("tflite", threads=2)]
    assert [need.threads for need in Tuned("litert", 4, (), 0.5).needs(needs)] == [1, 2]


@given(st.builds(Tuned, st.text(), st.integers(1, 1024), st.lists(st.integers(0, 1023)).map(tuple), st.floats(0.01, 1)))
def test_what_was_found_is_read_as_it_was_written(found: Tuned) -> None:
    assert tuned({"tuned": json.loads(json.dumps(found.as_dict()))}) == found


@pytest.mark.parametrize("odd", [5, {}, {"engine": "x", "threads": 0, "cpus": [], "faster": 1}, {"cpus": [-1]}])
def test_what_cannot_be_read_or_saves_nothing_is_as_declared(odd: Any) -> None:
    assert tuned({"tuned": odd}) is None
    assert tuned({}) is None
    assert tuned({"tuned": Tuned("litert", 4).as_dict()}) is None


def test_a_busy_machine_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "is_busy", lambda cores: cores > 0)

    def load(way: Tuned) -> NoReturn:
        raise AssertionError

    assert tuning.tune(load, {}, Tuned("x", 1), [Tuned("x", 2)]) == Tuned("x", 1)


def test_busy_is_more_than_there_are_cores_for() -> None:
    assert not tuning.is_busy(1 << 20)
    assert tuning.is_busy(0)
