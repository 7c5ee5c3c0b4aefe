"""The app of docs/flower.md on a real SuperLink and three SuperNodes, each a device with a release and its own samples.

What comes of it is what the same trainers and strategies give here, one after the other.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.federated.entries import FLOWER
from edgekit import environments
from edgekit import target as targets
from edgekit.build import build
from edgekit.bundle import Contents
from edgekit.errors import EdgekitError
from edgekit.federated.deepening import deepened
from edgekit.federated.strategies import named
from edgekit.model import Format, Model, open_model
from edgekit.passes import head, training_tflite
from edgekit.precision import Precision
from edgekit.signing import Signer
from edgekit_runtime import serving
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.session import of_bundle
from edgekit_train import features
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.samples import Samples
from edgekit_train.settings import Settings
from edgekit_train.signature_trainer import SignatureTrainer
from edgekit_train.trainer import Trainer
from edgekit_train.update import Weights
from tests.lab import flower
from tests.lab.bundles import DIGITS, TARGET
from tests.lab.collecting import Process
from tests.lab.flower import Programs
from tests.lab.models import digits_order
from tests.lab.trainable import CLASSES, clusters, start, trainable
from tests.lab.updates import update
from tests.runtime.bundles import go_live, make_key, write
from tests.test_passes_training import order as clusters_order

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEVICES = ("one", "two", "three")
Rows = list[tuple[np.ndarray, int]]
CLOSE = {"rtol": 1e-6, "atol": 1e-6}
SOURCE = DIGITS / "digits.onnx"
LIES, ANSWERS = (flower.ROOT / "tests" / "lab" / f"flower_{name}.py" for name in ("lies", "answers"))


@dataclass(frozen=True)
class Fleet:
    """By device its node, its home, and what it learns from."""

    programs: Programs
    nodes: dict[str, Process]
    homes: dict[str, Path]
    rows: dict[str, Rows]
    signer: Signer

    def serve(self, made: Contents, folder: Path) -> Bundle:
        """Live on each device from now on."""
        parcel = write(folder, self.signer, made)
        for home in self.homes.values():
            go_live(parcel, home)
        return parcel


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """In the user's cache, as the benchmark makes it; kept for the next run."""
    try:
        python = environments.ensure(FLOWER, print)
    except EdgekitError as error:
        pytest.skip(str(error))
    made = Programs(python, tmp_path_factory.mktemp("flower"))
    made.install()
    return made


@pytest.fixture(scope="module")
def fleet(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Digits behind a dark window: each device has pictures of its own, of which the last two see few classes."""
    folder = tmp_path_factory.mktemp("devices")
    signer = make_key(folder / "signer")
    order = replace(digits_order(), features=True, precisions=(Precision.INT8,), formats=(Format.ONNX,))
    made = build(open_model(SOURCE), targets.load(TARGET), order, lambda line: None).contents
    assert made is not None
    parcel = write(folder / "bundle", signer, made)
    homes = {name: folder / name for name in DEVICES}
    for name, home in homes.items():
        (home / "trust").mkdir(parents=True)
        (home / "trust" / "allowed_signers").write_text(f"{signer.allowed_line()}\n")
        go_live(parcel, home)
        with Samples("digits", home) as kept:
            for x, y in pictures(name):
                kept.keep(x, y)
    with of_bundle(parcel) as session:
        rows = {name: list(features.samples(session, pictures(name))) for name in DEVICES}
    with flower.running(programs, list(homes.values())) as nodes:
        yield Fleet(programs, nodes, homes, rows, signer)


def pictures(name: str) -> list[tuple[np.ndarray, int]]:
    with np.load(DIGITS / "evaluation.npz") as data:
        x, y = data["x"] * np.float32(0.5), data["labels"]
    place = DEVICES.index(name)
    mine = [at for at in range(place, len(y), 3) if place == 0 or y[at] % 2 == place - 1]
    return [(x[at : at + 1], int(y[at])) for at in mine]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return flower.guide(tmp_path / "digits-rounds")


def learned(fleet: Fleet, app: Path, strategy: str, rounds: int = 2) -> tuple[Weights, str]:
    """The head that the app has written, and the log of its run."""
    model, said = written(fleet, app, SOURCE, strategy, rounds)
    return head.weights_of(model), said


def written(fleet: Fleet, app: Path, source: Path, strategy: str = "fedavg", rounds: int = 2) -> tuple[Model, str]:
    """The model that the app has written, and the log of its run."""
    path = app.parent / f"{strategy}{source.suffix}"
    said = fleet.programs.run(app, strategy=strategy, rounds=rounds, model=str(source), learned=str(path))
    assert path.exists(), said
    return open_model(path), said


def expected(fleet: Fleet, name: str, rounds: int = 2, devices: tuple[str, ...] = DEVICES) -> Weights:
    """By our own strategy, on what the same trainer makes of the same samples."""
    rows = {each: fleet.rows[each] for each in devices}
    return combined(HeadTrainer(), shipped(), rows, name, rounds)


def combined(
    trainer: Trainer, begun: Weights, rows: Mapping[str, Rows], name: str = "fedavg", rounds: int = 2
) -> Weights:
    """What rounds come to, one device after the other."""
    strategy = named(name, {})
    state = strategy.init(begun)
    for _ in range(rounds):
        fitted = {each: trainer.fit(state.weights, own, strategy.config) for each, own in rows.items()}
        came = [update(each.delta, device, each.examples) for device, each in fitted.items()]
        state = strategy.aggregate(state, came)
    return state.weights


def shipped() -> Weights:
    return head.weights_of(open_model(SOURCE))


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.allclose(one[name], other[name], **CLOSE) for name in one)


def test_the_guide_has_an_app(app: Path) -> None:
    assert {path.name for path in app.iterdir()} == {"client.py", "server.py", "pyproject.toml"}


@pytest.mark.parametrize(("strategy", "rounds"), [("fedprox", 2), ("fedadam", 3), ("median", 2)])
def test_rounds_over_flower_end_where_ours_end(fleet: Fleet, app: Path, strategy: str, rounds: int) -> None:
    found, said = learned(fleet, app, strategy, rounds)
    assert not same(found, shipped())
    assert same(found, expected(fleet, strategy, rounds)), said
    assert "'devices': '3'" in said
    assert "loss_after" in said


def test_a_hidden_layer_learns_over_flower_as_it_does_here(fleet: Fleet, app: Path) -> None:
    """It begins as the head that is shipped, at the rate of its trainer; what is written has the last layer as head."""
    flower.begin_otherwise(app, "mlp")
    begun = deepened(shipped(), 32)
    model, said = written(fleet, app, SOURCE)
    found = head.weights_of(replace(model, head_layers=2))
    assert head.weights_of(model).keys() == {"head.0.weight", "head.0.bias"}
    assert found["head.0.weight"].shape == (256, 32), said
    assert not same(found, begun)
    assert same(found, combined(HeadTrainer(usual=Settings(rate=0.01)), begun, fleet.rows)), said
    assert "'devices': '3'" in said


def test_training_signatures_learn_over_flower_as_they_do_here(fleet: Fleet, app: Path, tmp_path: Path) -> None:
    """Of another app that the same devices serve; what is written answers what was learned."""
    source = trainable(tmp_path / "clusters.tflite")
    made = build(open_model(source), targets.load(TARGET), clusters_order(tmp_path), lambda line: None).contents
    assert made is not None
    parcel = fleet.serve(made, tmp_path / "bundle")
    rows = {name: list(zip(*clusters(60, seed), strict=True)) for seed, name in enumerate(DEVICES, 7)}
    for name, home in fleet.homes.items():
        with Samples("clusters", home) as kept:
            for x, y in rows[name]:
                kept.keep(x[None], int(y))
    client = app / "client.py"
    client.write_text(client.read_text().replace('"digits"', '"clusters"'))
    flower.begin_otherwise(app, "signature")
    model, said = written(fleet, app, source)
    found = training_tflite.weights_of(model)
    assert not same(found, start())
    assert same(found, combined(SignatureTrainer(serving.model(parcel), CLASSES), start(), rows)), said
    assert "'devices': '3'" in said


def test_strategies_of_flower_take_what_our_devices_answer(fleet: Fleet, app: Path) -> None:
    server = app / "server.py"
    text = server.read_text().replace(
        "edgekit.federated.flower import FlowerStrategy", "flwr.serverapp.strategy import FedAvg"
    )
    before, _, after = text.partition("    strategy = ")
    rest = after[after.index("    result = ") :]
    theirs = "    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)\n"
    server.write_text(before + theirs + rest)
    found, said = learned(fleet, app, "theirs")
    assert same(found, expected(fleet, "fedavg")), said


def test_a_device_without_samples_takes_no_part(fleet: Fleet, app: Path) -> None:
    """And a strategy that needs it refuses the round: the weights are as they were."""
    kept = fleet.homes["three"] / "samples"
    shutil.move(kept, app.parent / "away")
    try:
        found, said = learned(fleet, app, "fedavg")
        assert same(found, expected(fleet, "fedavg", devices=("one", "two"))), said
        assert "has kept no samples" in said
        assert "'refused': '1'" in said
        found, said = learned(fleet, app, "median", rounds=1)
        assert same(found, shipped()), said
        assert "needs updates from 3 devices and has 2" in said
    finally:
        shutil.move(app.parent / "away", kept)


def test_a_message_says_how_to_learn(fleet: Fleet) -> None:
    programs = fleet.programs
    home = {"EDGEKIT_HOME": str(fleet.homes["one"])}
    told = printed(programs.command(programs.python, "-P", ANSWERS, "digits", "256", "10", **home))
    assert told["task"] == ["bias", 1.0, 0.5, {"proximal": 0.1, "rate": 0.01}, f"{1:032x}", "7"]
    plain = told["plain"]
    assert plain["norm"] > 0.5
    assert (plain["names"], plain["still"]) == (["head.0.weight", "head.0.bias"], [])
    assert {"num-examples", "loss_before", "loss_after"} <= {*plain["metrics"]}
    assert told["bias"]["still"] == ["head.0.weight"]
    assert told["clip"]["norm"] == pytest.approx(0.25, rel=1e-3)
    assert told["noise"]["norm"] == pytest.approx(2570**0.5, rel=0.1)
    assert told["noise"]["metrics"] == ["num-examples", "seconds"]
    assert told["noise alone"] == {"error": "noise without a clip hides nothing: say both"}
    assert told["mod"]["norm"] == pytest.approx(0.5, rel=1e-2)
    assert "is of model sha256:000000000000" in told["family"]["error"]
    assert "unknown setting 'speed'" in told["setting"]["error"]


def test_a_device_that_has_stopped_is_waited_for_until_the_deadline(fleet: Fleet, app: Path) -> None:
    server = app / "server.py"
    server.write_text(server.read_text().replace('context.run_config["rounds"]', "1, timeout=30"))
    node = fleet.nodes["three"].started
    assert node
    node.send_signal(signal.SIGSTOP)
    try:
        found, said = learned(fleet, app, "fedavg")
    finally:
        node.send_signal(signal.SIGCONT)
    assert same(found, expected(fleet, "fedavg", 1, ("one", "two"))), said
    assert "'devices': '2'" in said


def test_what_a_reply_says_is_not_taken_on_trust(programs: Programs) -> None:
    told = printed(programs.host(programs.python, "-P", LIES))
    assert {name: tuple(each) for name, each in told["lies"].items()} == REASONS
    assert told["taking part"] == {"wide": 4, "none": 0}
    assert told["delta"] == {"head.0.bias": [0.5] * 2, "head.0.weight": [[0.5] * 2] * 4}
    assert (told["examples"], told["metrics"]) == (10, {"loss_after": 0.25})
    assert told["medians"] == {"a": 3.0}
    assert told["by examples"] == pytest.approx([-0.2] * 2)
    assert told["clipped"] == pytest.approx([-0.1 / 3] * 2)  # whatever it says of its examples
    assert told["too long"] == pytest.approx([0.1] * 2)
    assert (told["fortran"], told["scalar"]) == (True, 3.0)


def printed(command: list[str]) -> dict[str, Any]:
    """The JSON object of a program."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


REASONS = {
    "error": ("round", "it answered with an error: Traceback: no samples [2J"),
    "no arrays": ("broken_update", "0 records of arrays and 1 of metrics, where one of each must be"),
    "nan": ("broken_update", "head.0.bias: numbers that are not finite"),
    "far": ("round", "norm: 1.41e+30, where at most 10 can be"),
    "wide": ("broken_update", "'head.0.bias': no float32 array as numpy writes it"),
    "shape": ("broken_update", "head.0.bias: shape [3], where the model has [2]"),
    "objects": ("broken_update", "'head.0.bias': no float32 array as numpy writes it"),
    "vast": ("broken_update", "'head.0.bias': 128 bytes for an array of shape (1099511627776,)"),
    "header": ("broken_update", "'head.0.bias': 136 bytes for an array of shape (9,)"),
    "short": ("broken_update", "'head.0.bias': 135 bytes for an array of shape (2,)"),
    "empty": ("broken_update", "'head.0.bias': no float32 array as numpy writes it"),
    "names": ("broken_update", "names: 'more' not in the model"),
    "missing": ("broken_update", "names: 'head.0.bias', 'head.0.weight' missing"),
    "examples": ("round", "examples: 1099511627776, where 1 to 100 can be"),
    "none": ("round", "examples: 0, where 1 to 100 can be"),
    "part": ("broken_update", "'num-examples' is no whole number"),
    "list": ("broken_update", "'num-examples' is no whole number"),
    "figures": ("broken_update", "201 metrics, where at most 100 can be"),
}
