"""Devices of two kinds in one round: x86-64 behind an SSH server, and an emulated Raspberry Pi.

They serve one model, each as a bundle of its own; they learn together, and get what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit import fleet
from edgekit import simulate as simulating
from edgekit.cli.places import DEVICES
from edgekit.federated import lineage
from edgekit.federated.rounds.shelf import Shelf
from edgekit_runtime.bundle import open_layout
from edgekit_train import family
from tests.lab.bundles import DIGITS
from tests.lab.emulated import CACHE, needs_a_board, setup, simulate
from tests.lab.keeping import keep
from tests.lab.project import document, edgekit, settle
from tests.lab.sshd import needs_sshd
from tests.test_passes_head import GAIN, negatives

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_a_board, needs_sshd]

DESK, KITCHEN = "desk", "kitchen"
TARGETS = {DESK: "generic-x86-64", KITCHEN: "raspberry-pi-5"}
TOML = """app = "digits"
model = "{model}"
targets = ["generic-x86-64", "pi"]
features = true
[data]
calibration = "{data}/calibration.npz"
evaluation = "{data}/evaluation.npz"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both serve the digits, and have kept negatives of them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = settle(tmp_path_factory.mktemp("mixed"), CACHE, patch)
        patch.setenv("XDG_DATA_HOME", str(folder.parent / "person" / "data"))
        try:
            assert document("device", "simulate", DESK)["transport"] == "ssh"
            assert simulate(KITCHEN)["emulated"]
            copy(DIGITS / "digits.onnx", folder)
            says(DIGITS)
            edgekit("build")
            for name in TARGETS:
                setup(name, "--train")
            edgekit("push", "--to", "all")
            says(folder)  # what devices see now
            keep_halves(*negatives(folder))
            yield folder
        finally:
            for name in TARGETS:
                simulating.stop(name, folder / DEVICES)


def says(data: Path, model: str = "digits.onnx") -> None:
    """edgekit.toml, with its data in that folder."""
    Path("edgekit.toml").write_text(TOML.format(model=model, data=data))


def keep_halves(x: np.ndarray, y: np.ndarray) -> None:
    """Each device keeps its half of the samples."""
    for place, name in enumerate(TARGETS):
        home = document("device", "probe", name)["facts"]["home"]
        keep(fleet.find(Path(), name).uri, home, "digits", x[place::2], y[place::2])


def live() -> dict[str, str]:
    return {each["device"]: each["apps"][0]["current"]["digest"] for each in document("status")["devices"]}


def learned() -> dict[str, Any]:
    """A round of both devices."""
    [found] = document("round", "start", "--to", "all", "--quorum", "100%", "--set", "epochs=20")["rounds"]
    assert [each["state"] for each in found["devices"]] == ["came", "came"], found
    return dict(found)


def test_they_learn_in_one_round_each_behind_its_own_release_and_get_what_came_of_it(project: Path) -> None:
    before, first = live(), learned()
    assert {each["device"]: each["facts"]["release"] for each in first["devices"]} == before
    assert before[DESK] != before[KITCHEN]
    assert [source_of(bundle_of(name)) for name in TARGETS] == [family.model(first["family"])] * 2
    assert [each["facts"]["examples"] for each in first["devices"]] == [100, 100]
    assert (first["source"], first["result"]["updates"]) == ("model", 2)
    assert first["result"]["accuracy"] > first["result"]["before"] + GAIN

    built = document("round", "build")
    assert (built["ok"], [each["target"] for each in built["builds"]]) == (True, list(TARGETS.values()))
    [shown] = document("round", "show")["rounds"]
    releases = {name: shown["gate"]["releases"][target] for name, target in TARGETS.items()}
    for each in built["builds"]:
        assert f"{first['id']} ({first['key']}) of 2 devices" in edgekit("bundle", "show", each["bundle"]).stdout
        told = lineage.of(open_layout(Path(each["bundle"]))[0].manifest)
        assert told is not None
        assert (told.model, told.devices) == (family.model(first["family"]), 2)
    edgekit("push", "--to", "all")
    assert live() == releases

    second = learned()
    assert {each["device"]: each["facts"]["release"] for each in second["devices"]} == releases
    assert [source_of(bundle_of(name)) for name in TARGETS] == [family.model(second["family"])] * 2
    assert second["family"] != first["family"]
    begun, shipped = Shelf(second["key"]).start().weights, Shelf(first["key"]).head()
    assert all(np.array_equal(begun[name], shipped[name]) for name in shipped)
    assert second["result"]["before"] == built["evaluation"]["accuracy_after"]


def bundle_of(name: str) -> Path:
    return Path(f"bundles/digits-{TARGETS[name]}")


def source_of(bundle: Path) -> str:
    """The float model that it was built from, by its digest."""
    return str(open_layout(bundle)[0].manifest.provenance["source"]["digest"])


def test_a_model_that_was_trained_anew_is_first_to_be_built_and_pushed(project: Path) -> None:
    trained_anew(Path("anew.onnx"))
    says(project, "anew.onnx")
    try:
        told = edgekit("round", "start", "--to", "all", status=2).line
    finally:
        says(project)
    assert told.startswith(
        "edgekit: anew.onnx is not the model that the devices' release was built from: it is sha256:"
    )
    assert told.endswith("build and push it first, or name that model in edgekit.toml")


def test_devices_of_two_models_are_told_by_name(project: Path) -> None:
    trained_anew(Path("anew.onnx"))
    says(project, "anew.onnx")
    try:
        edgekit("build", "--target", TARGETS[DESK], "--output", "other")
        edgekit("push", "other", "--to", DESK)
        told = edgekit("round", "start", "--to", "all", status=2).line
    finally:
        says(project)
    assert told.startswith("edgekit: these devices serve 2 models: digits of model sha256:")
    assert told.endswith("choose devices of one with --to")
    models = {name: model for model, name in re.findall(r"of model (sha256:\w+), inputs sha256:\w+: (\w+)", told)}
    assert models.keys() == TARGETS.keys()
    assert models[DESK] == source_of(Path("other"))[: len(models[DESK])] != models[KITCHEN]


def trained_anew(place: Path) -> None:
    """The digits with another last layer."""
    model = onnx.load(DIGITS / "digits.onnx")
    [weights] = [tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[-1].input[1]]
    changed = onnx.numpy_helper.to_array(weights) * np.float32(1.01)
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    onnx.save(model, place)
