from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit_runtime import golden, manifest, timing
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab.bundles import contents


def put(folder: Path, name: str, **changes: Any) -> None:
    """A candidate as the host sends it."""
    given = contents()
    (folder / f"{name}.json").write_bytes(manifest.dump(replace(given.manifest, **changes)))
    (folder / f"{name}.model").write_bytes(given.model)
    (folder / f"{name}.npz").write_bytes(given.golden)


def a_session() -> Session:
    told = contents().manifest
    return Session(contents().model, told.interface, told.engines)


def inputs() -> dict[str, Any]:
    return golden.parse(contents().golden)[0].inputs


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CALLS", 30)


def test_every_model_makes_its_calls_and_says_who_ran_it(tmp_path: Path) -> None:
    for name in ("000", "001"):
        put(tmp_path, name)
    found = timing.time_models(tmp_path)
    assert list(found) == ["000", "001"]
    for each in found.values():
        assert 30 <= len(each["times_ns"]) < 30 + timing.TURN
        assert all(time > 0 for time in each["times_ns"])
        assert each["engine"]["name"] in ("onnxruntime", "litert")


def test_models_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    real = timing._turn

    def noted(session: Any, *rest: Any) -> list[int]:
        turns.append(id(session))
        return real(session, *rest)

    monkeypatch.setattr(timing, "_turn", noted)
    for name in ("000", "001"):
        put(tmp_path, name)
    timing.time_models(tmp_path)
    assert len(turns) == 6
    assert turns[0::2] == [turns[0]] * 3
    assert turns[1::2] == [turns[1]] * 3


def test_a_slow_model_does_not_take_for_ever() -> None:
    with a_session() as session:
        found = timing.in_turns({"a": session}, {"a": [inputs()]}, longest_s=1e-9)["a"]
    assert isinstance(found, list)
    assert len(found) == timing.TURN - timing.WARM_UP


class Waking(Session):
    """Slow in the first calls of a turn, by a clock of its own."""

    def __init__(self) -> None:
        self.calls, self.now_ns = 0, 0

    def predict(self, inputs: Any) -> dict[str, Any]:
        self.now_ns += 20_000_000 if self.calls % timing.TURN < timing.WARM_UP else 1000
        self.calls += 1
        return {}


def test_the_first_calls_of_a_turn_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Waking()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter_ns=lambda: session.now_ns))
    found = timing.in_turns({"a": session}, {"a": [{}]})["a"]
    assert isinstance(found, list)
    assert session.calls > len(found) >= 30
    assert set(found) == {1000}


def test_one_that_fails_leaves_the_others_alone() -> None:
    with a_session() as good, a_session() as bad:
        found = timing.in_turns({"a": good, "b": bad}, {"a": [inputs()], "b": [{}]})
    assert isinstance(found["a"], list)
    assert isinstance(found["b"], InvalidInput)


def test_what_does_not_load_is_told_and_the_others_are_timed(tmp_path: Path) -> None:
    put(tmp_path, "000", engines=(EngineNeed("onnxruntime", ">=99"), EngineNeed("no-such-engine")))
    put(tmp_path, "001")
    put(tmp_path, "002")
    (tmp_path / "002.model").write_bytes(b"no model")
    put(tmp_path, "003")
    (tmp_path / "003.json").write_bytes(b"{}")
    found = timing.time_models(tmp_path)
    assert found["001"]["times_ns"]
    assert found["002"]["error"]["code"] == "engine"
    assert found["003"]["error"]["code"] == "bundle"


def test_nothing_is_found_in_an_empty_folder(tmp_path: Path) -> None:
    assert timing.time_models(tmp_path) == {}
