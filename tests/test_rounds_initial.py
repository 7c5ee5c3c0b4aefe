"""Weights that a trainer's own init gives on a device: taken only in the form that they must have, bounded, finite."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConfigError
from edgekit.federated.rounds import initial
from edgekit.federated.rounds.initial import Asking
from edgekit.federated.rounds.round import Subject
from edgekit_train import tensor_file
from tests.test_rounds_asking import device

SUBJECT = Subject("/project", "faces", "sha256:1", "own")
GOOD = tensor_file.dump({"mean": np.ones(3, np.float32)}, {})


def said(data: bytes = GOOD, **changes: Any) -> dict[str, Any]:
    return {"family": "sha256:1", "weights": base64.b64encode(data).decode(), **changes}


def asked(*said: Any, home: Path) -> Any:
    """Of devices that say that, in this order."""
    devices = [device(home / str(place), each) for place, each in enumerate(said)]
    with ThreadPoolExecutor(2) as pool:
        return Asking(devices, pool).weights(SUBJECT)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"error": {"code": "training", "message": "no trainer 'own'", "hint": None}}, "pi: no trainer 'own'"),
        (said(family="sha256:2"), "pi: the round is of model sha256:1, live there is model sha256:2"),
        (said(weights="no base64!"), "pi: says nothing of weights"),
        (said(weights=None), "pi: says nothing of weights"),
        (said(b"no file"), "pi's init: no weights: no safetensors file"),
        (said(tensor_file.dump({}, {})), "pi's init: nothing in it is no float32"),
        (said(tensor_file.dump({"mean": np.ones(3, np.float16)}, {})), "pi's init: mean is no float32"),
        (
            said(tensor_file.dump({"mean": np.full(3, np.nan, "f4")}, {})),
            "pi's init: mean: numbers that are not finite",
        ),
        (said(tensor_file.dump({"mean": np.ones(99, "f4")}, {})), "pi: an init of 484 bytes, where at most 300 can be"),
    ],
)
def test_what_is_none_is_told_and_the_next_device_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Any, why: str
) -> None:
    monkeypatch.setattr(initial, "MOST_INIT", 300)
    with pytest.raises(ConfigError) as caught:
        asked(odd, {}, home=tmp_path / "alone")
    assert caught.value.message.startswith(f"where does 'own' start from? {why}")
    assert caught.value.hint == "name weights: --from FILE.safetensors"
    weights, told = asked(odd, said(), home=tmp_path / "two")
    assert (weights["mean"].tolist(), told) == ([1.0, 1.0, 1.0], "pi's init")
