"""A trainer of somebody else's, from its package: it may print, and what goes wrong in it is told as its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.signing import Signer
from edgekit_runtime.releases import Release
from edgekit_train import family, tensor_file, trainers, words
from edgekit_train.fixed_point import Encoding
from edgekit_train.trainer import Fitted, TrainingFailed
from edgekit_train.trainers import Kind
from tests.lab.own_trainers import install
from tests.runtime.learners import APP, ROUND, a_task, born, keep, learned, live, read, seen, send

__all__ = ["born", "live"]  # fixtures


def ran(home: Path, packages: Path, *command: str) -> tuple[dict[str, Any], str]:
    """What ``python -m edgekit_train`` answers, as a host has it; and what it said beside."""
    path = os.pathsep.join([str(packages), *sys.path])
    environment = {**os.environ, "EDGEKIT_HOME": str(home), "PYTHONPATH": path}
    words = [sys.executable, "-m", "edgekit_train", *command]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    return json.loads(done.stdout), done.stderr


def test_what_it_prints_is_no_part_of_the_answer(home: Path, live: Release, signer: Signer, tmp_path: Path) -> None:
    """By print, past Python, by a program that it starts, and without the end of a line."""
    send(home, a_task(live, trainer="loud", weights={}), signer)
    answer, beside = ran(home, install(tmp_path / "packages", "loud"), "learn", APP, ROUND)
    assert read(answer).examples == answer["examples"] == 60
    for said in (
        "imported",
        "init",
        "epoch 1: loss 0.5",
        "a library in C",
        "a program",
        "what C holds back",
        "no end of line",
    ):
        assert said in beside


def test_what_it_begins_with_is_told(home: Path, live: Release, tmp_path: Path) -> None:
    """As a file of safetensors, for a host that has no weights; whatever it prints."""
    answer, beside = ran(home, install(tmp_path / "packages", "loud"), "init", APP, "loud")
    weights, _ = tensor_file.parse(base64.b64decode(answer["weights"]))
    assert weights["mean"].tolist() == [0.25] * 4
    assert (answer["release"], answer["family"]) == (live.digest, family.of(live.bundle.manifest, live.digest))
    assert "init" in beside


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        ({}, "what trainer 'own' gave are no weights: nothing in them"),
        (None, "what trainer 'own' gave are no weights: a NoneType where arrays by name must be"),
        ({"a": np.ones(2)}, "what trainer 'own' gave are no weights: a: float64 where float32 must be"),
        ({"a": np.ones(99, np.float32)}, "trainer 'own' begins with 484 bytes, where at most 300 are sent"),
        (KeyError("boom"), "trainer 'own' failed: KeyError: 'boom'"),
    ],
)
def test_what_it_cannot_begin_with(
    home: Path, live: Release, monkeypatch: pytest.MonkeyPatch, gives: Any, message: str
) -> None:
    class Begins(Own):
        def init(self, session: Any) -> Any:
            return self.fit(None, None, None)

    monkeypatch.setattr(words, "MOST_INIT", 300)
    bring(monkeypatch, Kind(lambda session, bundle: Begins(gives)))
    with pytest.raises(TrainingFailed) as caught:
        words.init(home, APP, "own")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("kind = (", "trainer 'own' cannot be loaded: SyntaxError: "),
        ("raise RuntimeError('no licence')", "trainer 'own' cannot be loaded: RuntimeError: no licence"),
        ("raise SystemExit(3)", "trainer 'own' cannot be loaded: SystemExit: 3"),
    ],
)
def test_a_package_that_cannot_be_loaded(
    home: Path, live: Release, signer: Signer, tmp_path: Path, source: str, message: str
) -> None:
    send(home, a_task(live, trainer="own"), signer)
    answer, _ = ran(home, install(tmp_path / "packages", "own", source), "learn", APP, ROUND)
    assert answer["error"]["code"] == "training"
    assert answer["error"]["message"].startswith(message)


class Own:
    """Gives that; or raises it."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def init(self, session: Any) -> Any:
        return {"mean": np.zeros(4, np.float32)}

    def fit(self, weights: Any, data: Any, config: Any) -> Any:
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives


def bring(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    class Entry:
        name = "own"

        def load(self) -> Kind:
            return kind

    monkeypatch.setattr(trainers, "_brought", lambda: [Entry()])


DELTA = {"mean": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (KeyError("boom"), "trainer 'own' failed: KeyError: 'boom'"),
        (ZeroDivisionError("division by zero"), "trainer 'own' failed: ZeroDivisionError: division by zero"),
        (ValueError("two\nlines"), "trainer 'own' failed: ValueError: two"),
        (FileNotFoundError(2, "No such file", "/x"), "trainer 'own' failed: FileNotFoundError: [Errno 2] No such"),
        (MemoryError(), "trainer 'own' failed: MemoryError"),
        (SystemExit(), "trainer 'own' failed: SystemExit"),
        (None, "what trainer 'own' gave is no update: a NoneType where a Fitted must be"),
        ([DELTA, 1], "what trainer 'own' gave is no update: a list where a Fitted must be"),
        (Fitted([1.0], 1), "what trainer 'own' gave is no update: a list where arrays by name must be"),  # type: ignore[arg-type]
        (Fitted({"a": np.ones(1)}, 1), "what trainer 'own' gave is no update: a: float64 where float32 must be"),
        (Fitted({"a": [1.0]}, 1), "what trainer 'own' gave is no update: a: list where float32 must be"),  # type: ignore[dict-item]
        (Fitted({"a": np.full(1, np.nan, "f4")}, 1), "what trainer 'own' gave is no update: a: a number that is not f"),
        (Fitted(DELTA, 1.5), "what trainer 'own' gave is no update: 'float' object cannot be"),  # type: ignore[arg-type]
        (Fitted(DELTA, 0), "what trainer 'own' gave is no update: 0 is no whole number from 1"),
        (Fitted(DELTA, 1, {"loss": "low"}), "what trainer 'own' gave is no update: could not convert"),  # type: ignore[dict-item]
        (Fitted(DELTA, 1, {"loss": np.nan}), "what trainer 'own' gave is no update: nan is no finite number"),
    ],
)
def test_what_goes_wrong_in_it_names_it(
    home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch, gives: Any, message: str
) -> None:
    bring(monkeypatch, Kind(lambda session, bundle: Own(gives), features=False))
    with pytest.raises(TrainingFailed) as caught:
        learned(home, signer, a_task(live, trainer="own"))
    assert caught.value.message.startswith(message)


def test_one_that_cannot_be_made_names_it(
    home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, Kind(lambda session: Own(None)))  # type: ignore[arg-type, call-arg, misc]
    with pytest.raises(TrainingFailed, match="trainer 'own' failed: TypeError"):
        learned(home, signer, a_task(live, trainer="own"))


def test_numbers_of_numpy_are_numbers(
    home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gives = Fitted(DELTA, np.int64(7), {"loss": np.float32(0.5)})  # type: ignore[arg-type, dict-item]
    bring(monkeypatch, Kind(lambda session, bundle: Own(gives), features=False))
    found = learned(home, signer, a_task(live, trainer="own"))
    assert (found.examples, found.metrics["loss"]) == (7, 0.5)


class TestUntold:
    """Where a task hides what samples are here, no error tells of them; this device alone has the reason."""

    @pytest.fixture(params=["noise", "secure"])
    def hiding(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"clip": 1.0, **({"noise": 0.1} if request.param == "noise" else {"secure": Encoding(1.0, 3)})}

    def refused(self, home: Path, signer: Signer, asked: Any) -> TrainingFailed:
        send(home, asked, signer)
        with pytest.raises(TrainingFailed) as caught:
            (words.secure if asked.secure else words.learn)(home, APP, ROUND)
        return caught.value

    def test_what_came_of_samples(
        self, home: Path, live: Release, signer: Signer, monkeypatch: pytest.MonkeyPatch, hiding: dict[str, Any]
    ) -> None:
        bring(monkeypatch, Kind(lambda session, bundle: Own(ValueError("of 17 samples one is of class 8"))))
        error = self.refused(home, signer, a_task(live, trainer="own", **hiding))
        assert str(error) == (
            "faces: nothing was learned, and why is told on the device alone — "
            "log in there: audit.log in its home has the reason"
        )
        line = json.loads((home / "audit.log").read_text().splitlines()[-1])
        assert (line["what"], line["reason"]) == ("learn refused", error.message)
        assert line["cause"] == "trainer 'own' failed: ValueError: of 17 samples one is of class 8"

    def test_what_has_to_do_with_none_is_told(
        self, home: Path, live: Release, signer: Signer, hiding: dict[str, Any]
    ) -> None:
        assert "no trainer 'magic'" in str(self.refused(home, signer, a_task(live, trainer="magic", **hiding)))
        other = a_task(live, family="sha256:" + "0" * 64, **hiding)
        assert "the round is of" in str(self.refused(home, signer, other))


def test_a_sample_beyond_what_float32_can_be_reckoned_with_is_passed_over(
    home: Path, live: Release, signer: Signer
) -> None:
    """Finite as it was kept; its features, or their squares, are not."""
    keep(home, [(np.full((1, 4), huge, np.float32), 0) for huge in (3e38, 1e25)])
    for trainer, weights in (("head", a_task(live).weights), ("moments", {})):
        task = a_task(live, trainer=trainer, weights=weights, round=("0c" if weights else "0d") * 16)
        assert learned(home, signer, task).examples == len(seen())
