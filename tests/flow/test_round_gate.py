"""What devices learned, back on them: a round, the gate, a build, waves; and a round that made it worse, kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
import pytest

from edgekit import fleet, signing, transports
from edgekit.dashboard.look import look
from edgekit.federated import lineage
from edgekit.federated.rounds.shelf import Shelf
from edgekit.fleet import Device
from edgekit.model import Model, open_model
from edgekit.passes import head
from edgekit.passes.proof import load
from edgekit.store import Store
from edgekit_runtime.bundle import open_layout
from edgekit_train import family, heads
from tests.lab.bundles import DIGITS, TARGET
from tests.lab.keeping import keep
from tests.lab.project import document, edgekit, project
from tests.test_passes_head import GAIN, negatives

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ("a", "b", "c")
TOML = """app = "digits"
model = "digits.onnx"
targets = ["{target}"]
features = true
[data]
calibration = "{data}/calibration.npz"
evaluation = "{data}/evaluation.npz"
"""


@dataclass(frozen=True)
class Lab:
    """A project whose three devices, folders of this machine, can learn."""

    project: Path

    def says(self, data: Path) -> None:
        """edgekit.toml, with its data in that folder."""
        (self.project / "edgekit.toml").write_text(TOML.format(target=TARGET, data=data))

    def keeps(self, x: np.ndarray, y: np.ndarray) -> None:
        """Each device keeps its share of the samples."""
        for place, name in enumerate(NAMES):
            own = slice(place, None, len(NAMES))
            keep(f"local:{self.project / name}", self.project / name, "digits", x[own], y[own])

    def live(self) -> set[str]:
        return {each["apps"][0]["current"]["digest"] for each in document("status")["devices"]}


@pytest.fixture
def lab(project: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("XDG_DATA_HOME", str(project.parent / "person" / "data"))
    copy(DIGITS / "digits.onnx", project)
    for name in NAMES:
        fleet.add(project, Device(name, f"local:{project / name}", TARGET))
    edgekit("device", "setup", NAMES[0], "--train", "--offline")
    for name in NAMES[1:]:
        (project / name / "trust").mkdir(parents=True)
        (project / name / "env").symlink_to((project / NAMES[0] / "env").resolve())
        line = f"{signing.signer(None).allowed_line()}\n"
        (project / name / "trust" / "allowed_signers").write_text(line)
    return Lab(project)


def learned(*words: str) -> dict[str, Any]:
    """A round of all devices."""
    [found] = document("round", "start", "--to", "all", "--set", "epochs=20", *words)["rounds"]
    assert found["state"] == "done", found
    return dict(found)


def test_what_devices_learn_comes_back_to_them_and_what_is_worse_does_not(lab: Lab, tmp_path: Path) -> None:
    lab.says(DIGITS)
    edgekit("build")
    edgekit("push", "--to", "all")
    shipped_first = open_model(DIGITS / "digits.onnx").digest
    copytree(f"bundles/digits-{TARGET}", "first")

    x, y = negatives(tmp_path)
    lab.says(tmp_path)  # what devices see now
    lab.keeps(x, y)
    first = learned()
    built = document("round", "build")
    assert (built["id"], built["ok"]) == (first["id"], True)
    gain = built["evaluation"]["accuracy_after"] - built["evaluation"]["accuracy_before"]
    assert gain > GAIN
    assert_named(built["builds"][0]["bundle"], first, shipped_first)
    differs = {
        each["what"]: each["b"] for each in document("bundle", "diff", "first", built["builds"][0]["bundle"])["changes"]
    }
    assert differs["provenance.round.key"] == first["key"]
    pushed = document("push", "--to", "all", "--waves", "1,100%", "--wait", "0")
    assert pushed["rollout"]["state"] == "done"
    assert lab.live() == {built["builds"][0]["digest"]}

    lab.keeps(np.tile(x, (4, 1, 1, 1)), np.tile((y + 1) % 10, 4))  # somebody has labelled it wrongly
    second = learned()
    assert second["family"] == family_of(built["builds"][0]["bundle"])
    assert {each["facts"]["release"] for each in second["devices"]} == {built["builds"][0]["digest"]}
    begun, before = Shelf(second["key"]).start().weights, Shelf(first["key"]).head()
    assert all(np.array_equal(begun[name], before[name]) for name in before)
    refused = document("round", "build", status=3)
    assert refused["evaluation"]["accuracy_before"] == built["evaluation"]["accuracy_after"]
    assert refused["reason"].startswith("worse than the model before, so it is kept and not shipped")
    assert lab.live() == {built["builds"][0]["digest"]}
    assert document("bundle", "show", f"bundles/digits-{TARGET}")["digest"] == built["builds"][0]["digest"]
    with Store() as store:
        html = look(store, list, time.time())
    assert f"Built for {TARGET} {built['builds'][0]['digest'][7:19]}" in html
    assert "worse than the model before" in html


ANSWER = """
import sys, numpy as np, edgekit_runtime
from edgekit_train import features
with edgekit_runtime.load("digits") as session:
    x = np.load(sys.argv[1])["x"]
    said = np.concatenate([next(iter(session.predict(one[None]).values())) for one in x])
    rows = np.concatenate([features.of(session, one[None]) for one in x])
np.savez(sys.argv[2], said=said, rows=rows)
"""


def test_a_hidden_layer_comes_to_devices_and_learns_on_there(lab: Lab, tmp_path: Path) -> None:
    """Twice: the second generation trains the layers of the first, on the same features, and adds none."""
    lab.says(DIGITS)
    edgekit("build")
    edgekit("push", "--to", "all")
    x, y = negatives(tmp_path)
    lab.says(tmp_path)
    lab.keeps(x, y)

    first = learned("--trainer", "mlp", "--set", "hidden=40")
    built = document("round", "build")
    assert built["evaluation"]["accuracy_after"] - built["evaluation"]["accuracy_before"] > GAIN
    assert " mlp of model sha256:" in edgekit("bundle", "show", built["builds"][0]["bundle"]).stdout
    edgekit("push", "--to", "all")
    assert lab.live() == {built["builds"][0]["digest"]}
    merged = head.merged(open_model(lab.project / "digits.onnx"), Shelf(first["key"]).head(), tmp_path / "1.onnx")
    assert_answers(lab, merged, tmp_path)

    second = learned("--trainer", "mlp", "--secure", "--clip", "2")
    begun, before = Shelf(second["key"]).start().weights, Shelf(first["key"]).head()
    assert begun["head.0.weight"].shape == (256, 40)
    assert begun.keys() == before.keys()
    assert all(np.array_equal(begun[name], before[name]) for name in before)
    assert second["result"]["before"] == built["evaluation"]["accuracy_after"]
    again = document("round", "build")
    assert again["ok"]
    assert lineage.of(open_layout(Path(again["builds"][0]["bundle"]))[0].manifest).rounds == 2  # type: ignore[union-attr]
    edgekit("push", "--to", "all")
    assert lab.live() == {again["builds"][0]["digest"]} != {built["builds"][0]["digest"]}
    latest = head.merged(merged, Shelf(second["key"]).head(), tmp_path / "2.onnx")
    assert latest.size == merged.size
    assert_answers(lab, latest, tmp_path)


def assert_answers(lab: Lab, merged: Model, folder: Path) -> None:
    """A device answers as the float model does that its release was built from; so does the head on its features."""
    device, given = lab.project / NAMES[1], folder / "answers.npz"
    with transports.connect(f"local:{device}") as link:
        link.run([f"{device}/env/bin/python", "-c", ANSWER, f"{folder}/evaluation.npz", str(given)]).check()
    with np.load(folder / "evaluation.npz") as data, np.load(given) as found:
        engine, name = load(merged), merged.outputs[0].inner
        want = np.concatenate([engine.run({merged.inputs[0].inner: one[None]})[name] for one in data["x"]])
        own = heads.logits(heads.layers(head.weights_of(merged)), found["rows"])
        assert np.mean(found["said"].argmax(axis=-1) == want.argmax(axis=-1)) > 0.97
        assert np.mean(own.argmax(axis=-1) == want.argmax(axis=-1)) > 0.97


def family_of(folder: str) -> str:
    bundle, _ = open_layout(Path(folder))
    return family.of(bundle.manifest, bundle.digest)


def assert_named(folder: str, of: dict[str, Any], model: str) -> None:
    """The bundle names the round, to a person and to a program."""
    told = lineage.of(open_layout(Path(folder))[0].manifest)
    assert told is not None
    assert (told.number, told.key, told.model, told.devices, told.rounds) == (of["id"], of["key"], model, 3, 1)
    assert f"{of['id']} ({of['key']}) of 3 devices" in edgekit("bundle", "show", folder).stdout
