"""Rounds with noise, by the command: who takes part, what is spent, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.federated.rounds.shelf import Shelf
from edgekit_train.update import Weights
from tests.lab import faces
from tests.lab.project import document, edgekit, project
from tests.lab.rounds import sent
from tests.runtime.learners import APP

__all__ = ["project"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

NAMES = ("a", "b", "c", "d")
BUDGET = ("--epsilon", "8", "--delta", "1e-3")
HIDDEN = {"head.0.bias": (32,), "head.0.weight": (8, 32), "head.1.bias": (3,), "head.1.weight": (32, 3)}
START = ("round", "start", "--set", "epochs=1", "--quorum", "100%")


@pytest.fixture(autouse=True)
def devices(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(project.parent / "data"))
    faces.settle(project)
    faces.learning(project, *NAMES)
    return project


def asked(project: Path) -> list[str]:
    """Devices that a task was ever sent to."""
    return [name for name in NAMES if (project / name / "rounds" / APP).exists()]


def test_central_noise_until_the_budget_is_spent(devices: Path) -> None:
    words = (*START, "--clip", "auto", "--privacy", "central", *BUDGET, "--sample", "0.5")
    found = document(*words, "--rounds", "3")["rounds"]
    assert [each["state"] for each in found] == ["done"] * 3
    assert all(len(each["devices"]) <= 4 for each in found)
    clips = [each["plan"]["clip"] for each in found]
    assert clips[0] == 1.0
    assert clips[1:] == [each["result"]["clip"] for each in found[:2]]
    privacy = found[-1]["privacy"]
    assert (privacy["kind"], privacy["rate"], privacy["epsilon"], privacy["delta"]) == ("central", 0.5, 8.0, 1e-3)
    assert 7.9 < privacy["spent"] <= 8
    shown = edgekit("round", "show").stdout.splitlines()[-1]
    assert shown.startswith("central privacy: ε = ")
    assert shown.endswith("each of 4 devices with probability 0.5")
    told = edgekit(*words, status=3).line
    assert told.startswith("edgekit: the privacy budget does not allow another round: ε = ")
    more = (*START, "--clip", "auto", "--privacy", "central", "--epsilon", "20", "--delta", "1e-3", "--sample", "0.5")
    [again] = document(*more)["rounds"]
    assert again["plan"]["clip"] == found[-1]["result"]["clip"]
    assert again["privacy"]["noise"] == privacy["noise"]


def test_local_noise_is_the_devices_own(devices: Path) -> None:
    words = (*START, "--clip", "0.5", "--privacy", "local", *BUDGET, "--strategy", "median")
    [found] = document(*words)["rounds"]
    assert asked(devices) == list(NAMES)
    norms = [each["facts"]["norm"] for each in found["devices"]]
    assert min(norms) > 0.5  # far above the clip, by the noise
    assert [each["facts"]["metrics"].keys() for each in found["devices"]] == [{"seconds"}] * 4
    assert found["plan"]["noise"] == pytest.approx(found["privacy"]["noise"])
    assert 7.9 < found["privacy"]["spent"] <= 8
    assert document(*words, status=3)["error"]["code"] == "privacy"


def test_a_hidden_layer_gets_central_noise_on_all_that_was_learned(devices: Path) -> None:
    """The mean of what devices said, and noise; the next round begins there, at what the head that is shipped says."""
    words = (*START, "--trainer", "mlp", "--clip", "0.5", "--privacy", "central", *BUDGET, "--rounds", "2")
    first, second = document(*words)["rounds"]
    begun, ended = Shelf(first["key"]).start().weights, Shelf(first["key"]).result()[0].weights
    assert {name: array.shape for name, array in begun.items()} == HIDDEN
    assert all(np.array_equal(ended[name], array) for name, array in Shelf(second["key"]).start().weights.items())
    said = [flat(each.delta) for each in sent(first)]
    assert len(said) == len(NAMES)
    assert max(np.linalg.norm(each) for each in said) <= 0.5 + 1e-6
    noise = flat(ended) - flat(begun) - np.mean(said, axis=0)
    assert noise.std() == pytest.approx(first["privacy"]["noise"] * 0.5 / len(NAMES), rel=0.2)
    ends = np.cumsum([begun[name].size for name in sorted(begun)])[:-1]
    assert all(np.abs(each).max() > 1e-3 for each in np.split(noise, ends))  # in every layer
    assert 7.9 < second["privacy"]["spent"] <= 8
    assert document(*words, status=3)["error"]["code"] == "privacy"


def test_a_hidden_layer_leaves_devices_with_noise_of_their_own(devices: Path) -> None:
    words = (*START, "--trainer", "mlp", "--clip", "0.5", "--privacy", "local", *BUDGET)
    [found] = document(*words)["rounds"]
    begun, ended = Shelf(found["key"]).start().weights, Shelf(found["key"]).result()[0].weights
    said = [flat(each.delta) for each in sent(found)]
    assert len(said) == len(NAMES)
    assert {name: array.shape for name, array in begun.items()} == HIDDEN
    assert flat(ended) - flat(begun) == pytest.approx(np.mean(said, axis=0), abs=1e-4)  # each has as many samples
    for each in said:
        assert each.std() == pytest.approx(found["plan"]["noise"], rel=0.2)
    assert [each["facts"]["metrics"].keys() for each in found["devices"]] == [{"seconds"}] * len(NAMES)
    assert 7.9 < found["privacy"]["spent"] <= 8


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([weights[name].ravel().astype(float) for name in sorted(weights)])


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("--privacy", "central", *BUDGET), 2, "hide no more than a clip"),
        (("--clip", "1", "--privacy", "central"), 2, "noise is for a budget"),
        (("--clip", "1", "--epsilon", "8"), 2, "a budget is of noise"),
        (("--clip", "1", "--privacy", "local", *BUDGET, "--sample", "0.5"), 2, "--sample hides devices"),
        (("--clip", "1", "--privacy", "central", *BUDGET, "--strategy", "krum"), 1, "krum and central noise exclude"),
        (("--clip", "1", "--secure", "--strategy", "median"), 1, "median and secure aggregation exclude"),
        (("--clip", "1", "--secure", "--compress", "int8"), 2, "no small form"),
        (("--clip", "1", "--secure", "--to", "a", "--to", "b"), 2, "a sum of 2 hides nobody"),
        (("--secure",), 2, "hide no more than a clip"),
        (("--clip", "-1"), 2, "'-1' is no clip"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_sent(
    words: tuple[str, ...], status: int, why: str, devices: Path
) -> None:
    assert why in edgekit(*START, *words, status=status).line
    assert asked(devices) == []
