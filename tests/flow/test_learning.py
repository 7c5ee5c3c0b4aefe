"""A device learns from its own digits: what learns set up, an int8 build pushed, samples kept by a program there."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit import build, bundle, fleet, push, signing, target, transports
from edgekit import device as devices
from edgekit.building.order import Order
from edgekit.errors import DeviceError
from edgekit.federated.rounds import signatures
from edgekit.fleet import Device
from edgekit.model import open_model
from edgekit.passes import head
from edgekit.precision import Precision
from edgekit.transports import Transport
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.session import of_bundle
from edgekit_train import family as families
from edgekit_train import features, heads, task, update
from edgekit_train.compression import Compression
from edgekit_train.task import Task
from edgekit_train.trainer import added
from edgekit_train.update import Weights
from tests.lab.bundles import DIGITS, TARGET
from tests.lab.project import edgekit, project

__all__ = ["project"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
Array = NDArray[Any]
ROUND = "0a" * 16
LOOP = """
import sys, numpy, edgekit_runtime
from edgekit_train.samples import Samples
data = numpy.load(sys.argv[1])
with edgekit_runtime.load("digits") as session, Samples("digits") as samples:
    for x, label in zip(data["x"], data["labels"]):
        session.predict(x[None])
        samples.keep(x[None], label)
"""


def digits() -> tuple[Array, Array]:
    """As a camera sees them whose lens has lost most of its contrast."""
    with np.load(DIGITS / "evaluation.npz") as data:
        return (0.35 * data["x"] + 0.5 * data["x"].max()).astype(np.float32), data["labels"]


def built(place: Path) -> Bundle:
    files = {"calibration": str(DIGITS / "calibration.npz"), "evaluation": str(DIGITS / "evaluation.npz")}
    order = Order("digits", "1.0", **files, base=DIGITS, now_s=1, precisions=(Precision.INT8,), features=True)
    made = build.build(open_model(DIGITS / "digits.onnx"), target.load(TARGET), order, lambda line: None).contents
    assert made is not None
    assert made.manifest.precision == "int8"
    return bundle.write(made, place, signing.signer(None))


def ask(link: Transport, home: Path, asked: Task) -> dict[str, Any]:
    data = task.dump(asked)
    folder = home / "rounds" / asked.app / asked.round
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.safetensors").write_bytes(data)
    (folder / "task.sig").write_text(signing.signer(None).sign(f"sha256:{hashlib.sha256(data).hexdigest()}"))
    return devices.train(link, "learn", asked.app, asked.round, timeout_s=100)


def test_a_device_learns_from_what_it_has_seen(project: Path) -> None:
    home = project / "desk"
    fleet.add(project, Device("desk", f"local:{home}", TARGET))
    edgekit("device", "setup", "desk", "--offline", "--train")
    with transports.connect(f"local:{home}") as link:
        parcel = built(project / "bundle")
        push.push(push.open_parcel(parcel.root), fleet.load(project)[0], link, lambda line: None)
        start = head.weights_of(open_model(DIGITS / "digits.onnx"))
        family = families.of(parcel.manifest, parcel.digest)
        asked = Task("digits", family, ROUND, "desk", config={"epochs": 20}, weights=start)
        with pytest.raises(DeviceError, match="digits: this device has kept no samples"):
            ask(link, home, asked)
        x, labels = digits()
        np.savez(project / "seen.npz", x=x[:300], labels=labels[:300])
        loop = [home / "env/bin/python", "-c", LOOP, project / "seen.npz"]
        subprocess.run(loop, check=True, env={"EDGEKIT_HOME": str(home)}, timeout=100)
        answer = ask(link, home, replace(asked, compression=Compression()))
        assert ask(link, home, asked) == answer
        signatures.check("desk", answer["digest"], answer["signature"], answer["public"])
        found = update.parse((home / "rounds/digits" / ROUND / "update.safetensors").read_bytes(), 1 << 20)
        assert (found.device, found.examples) == ("desk", 300)
        before, after = (accuracy(parcel, weights) for weights in (start, added(start, found.delta)))
        assert after > before + 0.05, (before, after)
        assert devices.train(link, "forget", "digits", ROUND)["forgotten"] is True
    edgekit("device", "remove", "desk")
    assert not home.exists()


def accuracy(parcel: Bundle, weights: Weights) -> float:
    """On the digits that the device has not seen, by the int8 features."""
    x, labels = digits()
    with of_bundle(parcel) as session:
        rows = np.concatenate([features.of(session, each[None]) for each in x[300:]])
    return float((heads.logits(heads.layers(weights), rows).argmax(axis=-1) == labels[300:]).mean())
