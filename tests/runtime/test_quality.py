"""What is counted of calls, how often, and at what cost."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.signing import Signer
from edgekit_runtime import session, windows
from edgekit_runtime.spool import Spool
from edgekit_watch import calibration, quality
from edgekit_watch.calibration import Bins, Calibration, Spread
from edgekit_watch.quality import Quality
from tests.runtime.bundles import APP, contents, go_live, write

KNOWN = Calibration(
    {"x": Spread({"input": Bins((0.0,), (0.5, 0.5)), "detail": Bins((1.0,), (0.25, 0.75))}, -1.0, 1.0)},
    {"y": Spread({"confidence": Bins((0.5,), (0.1, 0.9)), "entropy": Bins((0.5,), (0.9, 0.1))}, softmax=True)},
)
X, Y = np.array([[-2.0, -0.5, 0.5, 3.0]], np.float32), np.array([[9.0, 0.0, 0.0]], np.float32)
LONG_NS = 10**12


def fresh() -> Quality:
    return Quality(KNOWN, {"x": "inner"})


def look(watch: Quality, x: object = X, y: object = Y, spent_ns: int = LONG_NS) -> None:
    watch.look(x, {"inner": x}, {"y": y}, spent_ns)  # type: ignore[dict-item]


def test_a_call_by_hand() -> None:
    watch = fresh()
    look(watch)
    counters, drift = watch.take()
    assert counters == {"inputs_checked": 4, "inputs_clipped": 2}
    assert drift == {
        "input:x": (2, 2),
        "detail:x": (0, 3),
        "confidence:y": (0, 1),
        "entropy:y": (1, 0),
        "expected:input:x": (5000, 5000),
        "expected:detail:x": (2500, 7500),
        "expected:confidence:y": (1000, 9000),
        "expected:entropy:y": (9000, 1000),
    }
    assert watch.take() == ({}, {})


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32)),
        (np.float32(1), np.float32(1)),
        (np.full((1, 4), np.nan), np.full((1, 3), np.inf)),
        (np.array([["a"]]), np.array([[None]])),
    ],
)
def test_what_cannot_be_looked_at_is_not_counted_and_nothing_is_raised(x: object, y: object) -> None:
    watch = fresh()
    with np.errstate(all="raise"):
        look(watch, x, y)
    watch.look(X, {}, {}, 1)
    assert all(len(counts) == 2 for counts in watch.take()[1].values())


def test_looking_costs_less_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of inferences of a millisecond, all at once: as many looks as half a hundredth of the time has room for.

    By what this thread computes, from which other programs take nothing.
    """
    clock = SimpleNamespace(monotonic=time.monotonic, perf_counter_ns=time.thread_time_ns)
    monkeypatch.setattr(quality, "time", clock)
    watch, spent = fresh(), 10**6
    calls, looks = 20000, 0
    cost = time.thread_time_ns()
    for _ in range(calls):
        before = watch._turn
        look(watch, spent_ns=spent)
        looks += watch._turn > before
    cost = time.thread_time_ns() - cost
    assert looks > 3
    assert watch._cost_ns <= 2 * quality.SHARE * calls * spent
    assert cost < 0.01 * calls * spent


def test_a_device_that_has_few_calls_is_looked_at_a_few_times_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a call a second, of a microsecond: a look would be a hundred times as long."""
    now = [0.0]
    monkeypatch.setattr(quality.time, "monotonic", lambda: now[0])
    watch = fresh()
    turns = set()
    for _ in range(600):
        now[0] += 1
        look(watch, spent_ns=1000)
        turns.add(watch._turn)
    assert 30 <= len(turns) <= 60


def test_after_a_window_the_next_call_is_looked_at() -> None:
    watch = fresh()
    for _ in range(5):
        look(watch, spent_ns=1)
    watch.take()
    look(watch, spent_ns=1)
    assert watch.take()[1]["input:x"] == (2, 2)


def test_threads_count_every_look_once() -> None:
    watch = fresh()

    def work() -> None:
        for _ in range(200):
            look(watch)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    found = [watch.take() for _ in range(20)]
    for each in threads:
        each.join()
    found.append(watch.take())
    checked = sum(counters.get("inputs_checked", 0) for counters, _ in found)
    assert checked == 4 * watch._turn
    assert sum(drift["input:x"][0] for _, drift in found if drift) == 2 * watch._turn


def test_a_bundle_without_a_profile_has_none(signer: Signer, tmp_path: Path) -> None:
    assert quality.of_bundle(write(tmp_path / "bundle", signer)) is None


@pytest.mark.parametrize("profile", [b'{"schema_version": 7}', b"[]", calibration.dump(KNOWN) + b" " * (1 << 14)])
def test_one_that_cannot_be_read_keeps_no_model_from_serving(signer: Signer, tmp_path: Path, profile: bytes) -> None:
    odd = replace(contents(), calibration=profile)
    assert quality.of_bundle(write(tmp_path / "bundle", signer, odd)) is None


@pytest.mark.parametrize("way", ["predict", "lend", "predict_async"])
def test_what_an_installed_release_sees_comes_into_its_window(
    way: str, home: Path, signer: Signer, tmp_path: Path
) -> None:
    bins = {"input": Bins((0.0,), (0.5, 0.5))}
    known = Calibration({"x": Spread(bins, -1.0, 1.0)}, {"y": Spread({"confidence": Bins((0.5,), (0.5, 0.5))})})
    parcel = write(tmp_path / "bundle", signer, replace(contents(), calibration=calibration.dump(known)))
    with session.of_release(home, go_live(parcel, home)) as loaded:
        if way == "lend":
            loaded.lend(X, lambda outputs: None)
        elif way == "predict":
            loaded.predict(X)
        else:
            loaded.predict_async(X).result()
    [window] = Spool(home / "reports" / APP).windows()
    assert (window.counters["inputs_checked"], window.counters["inputs_clipped"]) == (4, 2)
    assert (window.drift["input:x"], window.drift["expected:input:x"]) == ((2, 2), (5000, 5000))
    assert sum(window.drift["confidence:y"]) == 1


def test_the_names_are_those_that_a_window_can_have() -> None:
    watch = fresh()
    look(watch)
    counters, drift = watch.take()
    window = windows.Window("app", "sha256:1", "s", 0, 1.0, 2.0, counters=counters, drift=drift)
    assert windows.parse(windows.dump(window)) == window
    longest = f"{windows.EXPECTED}confidence:{'x' * calibration.MOST_NAME}"
    assert len(longest) < 200
