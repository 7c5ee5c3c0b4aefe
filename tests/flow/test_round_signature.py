"""A model that trains by its own signatures, all the way: built, pushed, trained on devices, merged, back on them."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from edgekit import fleet, signing, transports
from edgekit.federated.rounds.shelf import Shelf
from edgekit.fleet import Device
from edgekit_runtime.bundle import MODEL_TYPE, open_layout
from edgekit_train.signature_trainer import weights_of
from tests.lab.bundles import TARGET
from tests.lab.keeping import keep
from tests.lab.project import document, edgekit, project
from tests.lab.trainable import clusters, start, trainable

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ("a", "b")
TOML = f"""app = "clusters"
model = "clusters.tflite"
targets = ["{TARGET}"]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
"""
PREDICT = """
import sys, numpy as np, edgekit_runtime
with edgekit_runtime.load("clusters") as session:
    print(session.predict(np.load(sys.argv[1])["x"])["logits"].argmax(axis=-1).tolist())
"""


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model that can be trained, and two devices, folders of this machine, that can learn."""
    monkeypatch.setenv("XDG_DATA_HOME", str(project.parent / "person" / "data"))
    trainable(project / "clusters.tflite")
    (project / "edgekit.toml").write_text(TOML)
    for seed, name, count in ((3, "calibration", 60), (4, "evaluation", 200)):
        x, y = clusters(count, seed)
        np.savez(project / f"{name}.npz", x=x, labels=y)
    for name in NAMES:
        fleet.add(project, Device(name, f"local:{project / name}", TARGET))
    edgekit("device", "setup", NAMES[0], "--train", "--offline", "--engine", "litert")
    (project / NAMES[1] / "trust").mkdir(parents=True)
    (project / NAMES[1] / "env").symlink_to((project / NAMES[0] / "env").resolve())
    (project / NAMES[1] / "trust" / "allowed_signers").write_text(f"{signing.signer(None).allowed_line()}\n")
    return project


def on(device: Path, code: str, x: np.ndarray, y: np.ndarray) -> str:
    """What a device's own Python prints for samples."""
    np.savez(device.parent / "given.npz", x=x, labels=y)
    with transports.connect(f"local:{device}") as link:
        told = link.run([f"{device}/env/bin/python", "-c", code, str(device.parent / "given.npz")]).check()
    return told.stdout.decode()


def artifact(folder: str) -> bytes:
    bundle, _ = open_layout(Path(folder))
    return bundle.read(bundle.layer(MODEL_TYPE))


def learned(*words: str) -> dict[str, Any]:
    words = ("round", "start", "--to", "all", "--trainer", "signature", "--set", "rate=0.2", *words)
    [found] = document(*words)["rounds"]
    assert found["state"] == "done", found
    return dict(found)


def test_what_devices_learn_by_the_signatures_of_the_model_comes_back_to_them(here: Path) -> None:
    built = document("build")["builds"][0]
    assert "its signatures restore, train, weights" in edgekit("bundle", "show", built["bundle"]).stdout
    copytree(built["bundle"], "first")
    edgekit("push", "--to", "all")
    for seed, name in enumerate(NAMES, 7):
        keep(f"local:{here / name}", here / name, "clusters", *clusters(60, seed))

    refused = edgekit("round", "start", "--to", "all", status=1).line
    assert "its weights are those of its training signatures — edgekit round start --trainer signature" in refused
    first = learned("--set", "epochs=20")
    assert [(each["state"], each["facts"]["examples"]) for each in first["devices"]] == [("came", 60)] * 2
    begun, result = Shelf(first["key"]).start().weights, Shelf(first["key"]).result()[0].weights
    assert all(np.array_equal(begun[name], array) for name, array in start().items())
    assert first["result"]["accuracy"] > first["result"]["before"] + 0.2  # as the host says, by the merged model

    made = document("round", "build")
    assert (made["id"], made["ok"]) == (first["id"], True)
    answered = weights_of(artifact(made["builds"][0]["bundle"]))
    assert all(np.array_equal(answered[name], array) for name, array in result.items())
    assert all(np.array_equal(weights_of(artifact("first"))[name], array) for name, array in start().items())
    x, y = clusters(200, 11)
    before = [int(each) for each in on(here / "a", PREDICT, x, y).strip("[]\n").split(",")]
    edgekit("push", "--to", "all")
    after = [int(each) for each in on(here / "a", PREDICT, x, y).strip("[]\n").split(",")]
    assert after == (x @ result["weight"].T + result["bias"]).argmax(axis=-1).tolist()
    assert np.mean(np.array(after) == y) > np.mean(np.array(before) == y) + 0.2

    second = learned("--set", "epochs=1")
    assert {each["facts"]["release"] for each in second["devices"]} == {made["builds"][0]["digest"]}
    again = Shelf(second["key"]).start().weights
    assert all(np.array_equal(again[name], array) for name, array in result.items())
