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
from edgekit.model import open_model
from edgekit.store import Store
from edgekit_runtime.bundle import open_layout
from edgekit_train import family
from tests.lab.bundles import DIGITS, TARGET
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
KEEP = """
import sys, numpy as np
from edgekit_train.samples import Samples
data = np.load(sys.argv[1])
with Samples("digits") as kept:
    for x, y in zip(data["x"], data["labels"]):
        kept.keep(x[None], int(y))
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
            np.savez(self.project / "kept.npz", x=x[own], labels=y[own])
            with transports.connect(f"local:{self.project / name}") as link:
                words = [f"{self.project / name}/env/bin/python", "-c", KEEP, str(self.project / "kept.npz")]
                link.run(words).check()

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


def family_of(folder: str) -> str:
    bundle, _ = open_layout(Path(folder))
    return family.of(bundle.manifest, bundle.digest)


def assert_named(folder: str, of: dict[str, Any], model: str) -> None:
    """The bundle names the round, to a person and to a program."""
    told = lineage.of(open_layout(Path(folder))[0].manifest)
    assert told is not None
    assert (told.number, told.key, told.model, told.devices, told.rounds) == (of["id"], of["key"], model, 3, 1)
    assert f"{of['id']} ({of['key']}) of 3 devices" in edgekit("bundle", "show", folder).stdout
