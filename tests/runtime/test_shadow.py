"""The float twin, asked again about some calls while nothing else is to be done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.signing import Signer
from edgekit_runtime.errors import EngineError
from edgekit_runtime.manifest import EngineNeed, canonical
from edgekit_runtime.session import Session
from edgekit_watch import quality, shadow
from edgekit_watch.shadow import CALLS, Shadow
from tests.runtime.bundles import INTERFACE, contents, linear, samples, weights, write

CALIBRATION = b'{"schema_version": 1, "inputs": {}, "outputs": {}}'


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def twin() -> Session:
    return Session(linear(1), INTERFACE, [EngineNeed("onnxruntime")])


def calls(watch: Shadow, of: int, number: int = CALLS) -> None:
    """Of a model with other weights, or the same, as many as there are; the arrays are used again afterwards."""
    for x in samples(number):
        y = x @ weights(of)
        until(lambda: watch.wants)
        watch.offer(x, {"y": y})
        x[:], y[:] = 0, 0


def test_it_agrees_with_itself_and_not_with_another() -> None:
    for of, agreed in ((1, {CALLS}), (2, set(range(CALLS)))):
        watch = Shadow(twin, lambda: True, 0.002)
        calls(watch, of)
        until(lambda watch=watch: watch._runs == CALLS)
        told = watch.take()
        assert told["shadow_runs"] == CALLS
        assert told["shadow_agreed"] in agreed
        assert watch.take() == {}
        watch.close()


def test_only_an_idle_device_loads_it_and_only_while_it_is_asked() -> None:
    idle, loaded = threading.Event(), list[Session]()

    def load() -> Session:
        loaded.append(twin())
        return loaded[-1]

    watch = Shadow(load, idle.is_set, 0.002)
    calls(watch, 1)
    time.sleep(0.05)
    assert (loaded, watch.wants, watch.take()) == ([], False, {})
    idle.set()
    until(lambda: watch._runs == CALLS and watch.wants)
    [one] = loaded
    with pytest.raises(EngineError, match="closed"):
        one.predict(samples(1)[0])
    watch.close()


def test_what_cannot_be_loaded_is_given_up() -> None:
    def load() -> Session:
        raise EngineError("no")

    watch = Shadow(load, lambda: True, 0.002)
    calls(watch, 1)
    until(lambda: not watch._thread.is_alive())
    assert (watch.wants, watch.take()) == (False, {})
    watch.close()


def test_calls_too_large_are_not_kept() -> None:
    watch = Shadow(twin, lambda: False, 0.002)
    watch.offer(np.zeros(shadow.MOST_BYTES), {})
    assert watch._calls == []
    watch.close()


def test_its_thread_gives_way_and_no_other_does() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    watch = Shadow(twin, lambda: False, 10)
    until(lambda: os.getpriority(os.PRIO_PROCESS, watch._thread.native_id or 0) == 19)
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine
    watch.close()


@pytest.mark.parametrize(
    ("conditions", "load", "idle"),
    [
        ({"temperature_c": 45.0, "throttled": 0.0}, 0.1, True),
        ({}, 0.1, True),
        ({"temperature_c": 75.0}, 0.1, False),
        ({"throttled": 1.0}, 0.1, False),
        ({}, 100.0, False),
        ({"memory_available_mib": 99.0}, 0.1, False),
        ({"memory_available_mib": 101.0}, 0.1, True),
    ],
)
def test_when_a_device_is_idle(
    conditions: dict[str, float], load: float, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow.sensors, "read", lambda: conditions)
    monkeypatch.setattr(shadow.os, "getloadavg", lambda: (load, load, load))
    assert shadow.is_idle(100.0) is idle


def test_a_bundle_brings_its_twin(signer: Signer, tmp_path: Path) -> None:
    given = replace(contents(), calibration=CALIBRATION, twin=(linear(1), canonical(INTERFACE.as_dict())))
    bundle = write(tmp_path / "bundle", signer, given)
    assert [layer.media_type.rpartition("edgekit.")[2] for layer in bundle.layers][3:] == [
        "twin.v1+json",
        "twin.v1+onnx",
    ]
    x = samples(1)[0]
    with shadow._twin(bundle) as loaded:
        assert np.allclose(loaded.predict(x)["y"], x @ weights(1))
    watch = quality.of_bundle(bundle)
    assert watch
    assert watch._shadow
    assert watch._shadow.wants
    watch.look(x, {"x": x}, {"y": x @ weights(1)}, 10**6)
    assert not watch._shadow.wants
    watch.close()


def test_a_bundle_without_one_has_none(signer: Signer, tmp_path: Path) -> None:
    given = replace(contents(), calibration=CALIBRATION)
    assert shadow.of(write(tmp_path / "bundle", signer, given)) is None
