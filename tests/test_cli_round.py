"""`edgekit round`: what it prints, and its exit status; devices are folders of this machine, and really learn."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from edgekit import fleet
from edgekit.cli.round_desk import desk, ledgers
from edgekit.cli.round_told import Teller, status
from edgekit.federated.rounds.crowd import MOST
from edgekit.federated.rounds.measures import Privacy
from edgekit.federated.rounds.round import ABORTED, CAME, FAILED, HALTED, Part, Plan, Round, Subject
from edgekit.federated.rounds.shelf import Shelf
from edgekit.fleet import Device
from edgekit_train import heads, tensor_file
from tests.flow.test_fleet import cluster
from tests.lab import faces
from tests.lab.bundles import TARGET
from tests.lab.own_trainers import install
from tests.lab.project import document, edgekit, project
from tests.runtime.learners import features, seen, shipped

__all__ = ["cluster", "project"]  # fixtures

NAMES = ("gate", "hall", "yard")
BUDGET = ("--clip", "1.0", "--privacy", "central", "--epsilon", "8", "--delta", "1e-3")


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(project.parent / "person" / "data"))
    faces.settle(project)
    faces.learning(project, *NAMES)
    return project


def test_a_round_from_the_model_and_the_next_one_from_that(here: Path) -> None:
    """And one from a file, and what a person reads of them."""
    ran = edgekit("round", "start", "--set", "epochs=20", "--clip", "3")
    begun, *rest = ran.stderr.splitlines()
    assert re.fullmatch(r"round 1: 3 devices, faces of model sha256:\w{12}, head by fedavg, from model", begun)
    assert rest == ["round 1: 3 of 3 updates"]
    *devices, ended = ran.stdout.splitlines()
    assert sorted(line.partition(":")[0] for line in devices) == ["gate", "hall", "yard"]
    assert all(
        re.search(r": 60 samples learned from, .* KiB in .* s; loss .* → .*; accuracy ", line) for line in devices
    )
    found = re.fullmatch(
        r"round 1: 3 updates of 180 samples, weights moved by \S+; "
        r"accuracy (\S+)% → (\S+)% on 200 evaluation samples",
        ended,
    )
    assert found
    assert float(found[2]) > float(found[1]) + 20
    [second] = document("round", "start", "--to", "gate", "--set", "epochs=1")["rounds"]
    assert (second["source"], second["result"]["before"]) == ("round 1", float(found[2]) / 100)
    (here / "zero.safetensors").write_bytes(
        tensor_file.dump({name: np.zeros_like(array) for name, array in shipped().items()}, {})
    )
    [third] = document("round", "start", "--from", "zero.safetensors", "--strategy", "median", "--rounds", "1")[
        "rounds"
    ]
    assert not any(array.any() for array in Shelf(third["key"]).start().weights.values())
    shown = edgekit("round", "show", "1").stdout.splitlines()
    assert shown[0].endswith("): done")
    assert shown[-1] == ended.removeprefix("round 1: ")
    assert document("round", "inspect", "gate") == document("round", "inspect", "3", "gate")
    assert [each["device"] for each in document("round", "inspect", "2")["updates"]] == ["gate"]


def test_a_round_that_halts_is_carried_on_or_ended(here: Path) -> None:
    fleet.add(here, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    words = (
        "round",
        "start",
        "--strategy",
        "median",
        "--option",
        "liars=1",
        "--to",
        "gate",
        "--to",
        "hall",
        "--to",
        "gone",
    )
    ran = edgekit(*words, status=3)
    assert "edgekit: gone: pi@127.0.0.1:1: connection refused" in ran.stderr
    assert ran.stderr.splitlines()[-1] == (
        "edgekit: round 1: 2 of 3 updates; median needs 3 updates — "
        "'edgekit round resume' asks again, 'edgekit round abort' ends it"
    )
    again = edgekit("round", "resume", "--json", status=3)
    [halted] = json.loads(again.stdout)["rounds"]
    assert [each["state"] for each in halted["devices"]] == ["came", "came", "offline"]
    assert edgekit("round", "abort").stdout == "round 1: aborted\n"
    assert "round 1 was aborted" in edgekit("round", "resume", status=2).line
    assert not (here / "gate" / "rounds" / "faces" / halted["key"]).exists()


def test_rounds_before_the_one_that_the_budget_refuses_are_told_with_the_error(here: Path) -> None:
    words = ("--rounds", "5", "--clip", "1", "--privacy", "central", "--epsilon", "8", "--delta", "1e-3")
    ran = edgekit("round", "start", *words, "--noise", "0.9", "--set", "epochs=1", "--json", status=3)
    assert ran.document["error"]["code"] == "privacy"
    assert [(each["id"], each["state"]) for each in ran.document["rounds"]] == [(1, "done"), (2, "done")]
    assert "the privacy budget does not allow another round" in ran.line
    again = edgekit("round", "resume", "--json", status=3)
    assert [each["id"] for each in again.document["rounds"]] == [2]
    assert again.document["error"]["code"] == "privacy"
    folders = {path.name for path in Shelf("any").folder.parent.iterdir()}
    assert folders == {each["key"] for each in ran.document["rounds"]}


@pytest.mark.parametrize(
    ("part", "secure", "hint"),
    [
        (
            Part("gate", FAILED, error={"hint": "start another round"}),
            True,
            "start another round, 'edgekit round abort'",
        ),
        (Part("gate", CAME), True, "start another round, 'edgekit round abort'"),
        (
            Part("gate", FAILED, error={"hint": "nothing was learned; start another round"}),
            True,
            "'edgekit round resume'",
        ),
        (Part("gate", CAME), False, "'edgekit round resume'"),
    ],
)
def test_a_sum_that_is_lost_once_devices_have_given_their_part_is_not_resumed(
    part: Part, secure: bool, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = Subject("/project", "faces", "m", "head")
    halted = Round(4, "a" * 32, subject, Plan(secure=secure), HALTED, 0.0, "model", (part,), reason="too few")
    Teller(False).ended(halted)
    assert capsys.readouterr().err.startswith(f"edgekit: round 4: too few — {hint} ")


def test_a_round_that_was_aborted_by_somebody_else_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    aborted = Round(4, "a" * 32, Subject("/project", "faces", "m", "head"), Plan(), ABORTED, 0.0, "model", ())
    for as_json in (True, False):
        teller = Teller(as_json)
        teller.ended(aborted)
        assert status(teller.rounds) == 1
    assert capsys.readouterr() == ("", "edgekit: round 4: aborted by somebody else — edgekit round start\n")


def test_as_many_devices_are_at_work_at_once_as_a_crowd_has(here: Path) -> None:
    """All of them wait until the last one is there."""
    everybody = threading.Barrier(MOST, timeout=60)
    with desk(Teller(True)) as opened:
        ways = opened.ways(None, "head")
        found = [ways.pool.submit(everybody.wait) for _ in range(MOST)]
        assert {each.result() for each in found} == set(range(MOST))


@pytest.mark.slow
def test_the_same_on_a_cluster(here: Path, cluster: str) -> None:
    fleet.add(here, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    words = ("--executor", cluster, "--rounds", "2", "--quorum", "100%", "--set", "epochs=1")
    first, second = document("round", "start", *words)["rounds"]
    for found in (first, second):
        assert [each["state"] for each in found["devices"]] == ["came", "came", "came", "offline"]
        assert found["state"] == "done"


def test_what_cannot_be_is_said_before_any_device_is_asked(here: Path) -> None:
    (here / "own.safetensors").write_bytes(tensor_file.dump({"w": np.zeros(3, np.float32)}, {}))
    own = ("--trainer", "own", "--from", "own.safetensors")
    for words, line in (
        (["start", "--strategy", "krum"], "krum needs 5 devices, and 3 are meant"),
        (["start", "--trainer", "own"], "where does 'own' start from? gate: no trainer 'own' on this device"),
        (["start", "--trainer", "own", "--from", "model"], "where does 'own' start from?"),
        (["start", "--set", "a/b=1"], "trainer head: unknown setting 'a/b'"),
        (["start", *own, "--set", "a/b=1"], "no device can be asked that: no name: 'a/b'"),
        (["start", "--from", "7"], "no round 7 of the project"),
        (["inspect", "1"], "no round 1 of the project"),
        (["inspect", "gate"], "no round of the project"),
        (["inspect", "1", "gate", "hall"], "one device at a time, not 'hall' as well"),
    ):
        assert line in edgekit("round", *words, status=2).line
    assert not any((here / name / "rounds").exists() for name in NAMES)


def test_a_trainer_of_ones_own_begins_with_what_its_init_gives(here: Path) -> None:
    """On the first device that has it: of two others one is away, and one lacks it. Then with the last round."""
    fleet.add(here, Device("attic", "ssh://pi@127.0.0.1:1", TARGET))
    packages = install(here.parent / "packages", "loud")
    for name in NAMES[1:]:
        python = here / name / "env" / "bin" / "python"
        python.write_text(python.read_text().replace("PYTHONPATH=", f"PYTHONPATH={packages}:"))
    devices = [word for name in ("attic", *NAMES) for word in ("--to", name)]
    first, second = document("round", "start", "--trainer", "loud", *devices, "--rounds", "2")["rounds"]
    assert (first["source"], second["source"]) == ("hall's init", "round 1")
    begun, ended = Shelf(first["key"]).start().weights, Shelf(first["key"]).result()[0].weights
    assert begun["mean"].tolist() == [0.25] * 4
    means = [np.concatenate([x for x, _ in seen(seed=seed)]).mean(axis=0) for seed in (1, 2)]
    np.testing.assert_allclose(ended["mean"], np.mean(means, axis=0), atol=1e-6)
    assert [each["state"] for each in first["devices"]] == ["offline", "failed", "came", "came"]
    assert (
        edgekit("round", "start", "--trainer", "loud", "--to", "hall").stderr.splitlines()[0].endswith("from round 2")
    )


@pytest.mark.slow
def test_what_a_trainer_prints_disturbs_no_secure_sum(here: Path) -> None:
    """Devices and host converse over what is the trainer's standard output, too."""
    packages = install(here.parent / "packages", "loud")
    for name in NAMES:
        python = here / name / "env" / "bin" / "python"
        python.write_text(python.read_text().replace("PYTHONPATH=", f"PYTHONPATH={packages}:"))
    [ended] = document("round", "start", "--trainer", "loud", "--clip", "10", "--secure")["rounds"]
    assert (ended["state"], ended["source"]) == ("done", "gate's init")
    assert [each["state"] for each in ended["devices"]] == ["came"] * 3


@pytest.mark.slow
def test_a_hidden_layer_begins_with_what_is_shipped_and_goes_on_where_it_is(here: Path) -> None:
    """As many units as are asked for; and those of the round before, without a word."""
    told = document("round", "start", "--trainer", "mlp", "--set", "hidden=12", "--set", "epochs=20", "--rounds", "2")
    first, second = told["rounds"]
    assert (first["source"], second["source"], first["plan"]["config"]["hidden"]) == ("model", "round 1", 12)
    begun = Shelf(first["key"]).start().weights
    assert {name: array.shape for name, array in begun.items()} == {
        "head.0.weight": (8, 12),
        "head.0.bias": (12,),
        "head.1.weight": (12, 3),
        "head.1.bias": (3,),
    }
    with np.load(here / "evaluation.npz") as data:
        right = (features(data["x"]) @ shipped()["head.0.weight"]).argmax(axis=-1) == data["labels"]
    assert first["result"]["before"] == pytest.approx(right.mean())
    assert second["result"]["before"] == first["result"]["accuracy"] > first["result"]["before"] + 0.2
    assert [each["state"] for each in first["devices"]] == ["came"] * 3
    shown = edgekit("round", "inspect", "1", "hall").stdout
    assert re.search(r"head\.0\.weight +float32 +8×12 ", shown)
    assert re.search(r"head\.1\.weight +float32 +12×3 ", shown)
    words = ("start", "--trainer", "mlp", "--set", "hidden=16")
    assert "hidden is 16, and it begins with 12 hidden units" in edgekit("round", *words, status=2).line
    [anew] = document("round", *words, "--from", "model", "--compress", "int8", "--clip", "2")["rounds"]
    assert Shelf(anew["key"]).start().weights["head.0.bias"].shape == (16,)
    assert anew["result"]["accuracy"] > anew["result"]["before"]


@pytest.mark.slow
def test_a_hidden_layer_goes_before_what_a_head_has_learned(here: Path) -> None:
    """Weights of one layer, from wherever they are, begin a round of two that says the same."""
    [head] = document("round", "start", "--set", "epochs=20")["rounds"]
    [mlp] = document("round", "start", "--trainer", "mlp", "--from", "1", "--strategy", "fedadam")["rounds"]
    assert Shelf(mlp["key"]).start().weights["head.0.weight"].shape == (8, 32)
    assert mlp["source"] == "round 1"
    assert mlp["result"]["before"] == head["result"]["accuracy"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["start", *BUDGET, "--epsilon", "nan"], "Invalid value for '--epsilon': nan is no number to reckon with."),
        (["start", *BUDGET, "--epsilon", "inf"], "Invalid value for '--epsilon': inf is no number to reckon with."),
        (["start", *BUDGET, "--delta", "nan"], "Invalid value for '--delta': nan is no number"),
        (["start", *BUDGET, "--sample", "nan"], "Invalid value for '--sample': nan is no number"),
        (["start", *BUDGET, "--noise", "inf"], "Invalid value for '--noise': inf is no number"),
        (["start", "--from", "²"], "²: no weights: "),
        (["start", "--from", "9" * 23], f"no round {'9' * 23} of the project"),
        (["show", "9" * 23], f"no round {'9' * 23} of the project"),
        (["inspect", "9" * 23], f"no round {'9' * 23} of the project"),
        (["build", "9" * 23], f"no round {'9' * 23} of the project"),
        (["start", "--deadline", "99999999999999999h"], "'99999999999999999h' is longer than a year — write 90s"),
        (["start", "--deadline", "0s"], "'0s' is no deadline of a round — write 10m"),
        (["start", "--strategy", "fedadam", "--option", "rate=nan"], "fedadam: rate is nan — give a finite number"),
        (["start", "--strategy", "nosuch"], "no strategy 'nosuch' — known: fedavg"),
    ],
)
def test_what_nobody_can_reckon_with_is_a_mistake_of_whoever_wrote_it(here: Path, words: list[str], line: str) -> None:
    assert line in edgekit("round", *words, status=2).line
    assert "no round of the project" in edgekit("round", "show", status=2).line


def test_weights_of_another_model_or_trainer_begin_no_round(here: Path) -> None:
    """Nor does the next one begin with them."""
    for name, weights in {
        "classes": heads.initial([8, 12]),
        "features": heads.initial([64, 3]),
        "nan": {each: np.full_like(array, np.nan) for each, array in shipped().items()},
    }.items():
        (here / f"{name}.safetensors").write_bytes(tensor_file.dump(weights, {}))
    for words, why in (
        (["--from", "classes.safetensors"], "head.0.bias: shape [12], where the model has [3]"),
        (["--from", "features.safetensors"], "head.0.weight: shape [64, 3], where the model has [8, 3]"),
        (["--from", "nan.safetensors"], "head.0.bias: numbers that are not finite"),
        (["--trainer", "moments", "--from", "nan.safetensors"], "names: 'features.mean', 'features.square' missing"),
    ):
        assert why in edgekit("round", "start", *words, status=2).line
    assert "no round of the project" in edgekit("round", "show", status=2).line
    document("round", "start", "--set", "epochs=1")
    assert (
        "round 1: names: 'features.mean'"
        in edgekit("round", "start", "--trainer", "moments", "--from", "1", status=2).line
    )


def test_a_setting_that_no_device_takes_spends_nothing(here: Path) -> None:
    """Of the budget, of which each device's noise is entered before the device is asked."""
    hiding = ("--clip", "1.0", "--privacy", "local", "--epsilon", "8", "--delta", "1e-3")
    line = edgekit("round", "start", *hiding, "--set", "rate=abc", status=2).line
    assert line == "edgekit: trainer head: rate is 'abc' — give a number from 1e-08 to 1000"
    assert "no round of the project" in edgekit("round", "show", status=2).line
    with ledgers() as book:
        assert book.ledger(Subject(str(here), "faces", "", "head"), Privacy("local", 8, 1e-3)).spent == 0
    assert not any((here / name / "rounds").exists() for name in NAMES)


@pytest.mark.parametrize("word", ["5", "6.5", "some", "100000"])
def test_hidden_units_that_cannot_be_are_told_with_the_least(here: Path, word: str) -> None:
    line = edgekit("round", "start", "--trainer", "mlp", "--set", f"hidden={word}", status=2).line
    assert "a head of 3 classes begins with 6 to 65536 hidden units" in line
    assert "hidden=32" in line
