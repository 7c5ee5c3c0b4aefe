"""Bundles of the digits example: signed for real, and what can be wrong with one."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit import build, bundle, signing, target
from edgekit.building.order import Order
from edgekit.bundle import Contents
from edgekit.model import open_model
from edgekit.precision import Precision
from edgekit_runtime import golden
from edgekit_runtime.bundle import Bundle, blob_path

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TARGET = f"generic-{platform.machine().replace('_', '-')}"


@cache
def contents() -> Contents:
    """What `edgekit build` puts into the bundle of the digits example; int8, whatever this machine is quick at."""
    calibration, evaluation = (str(DIGITS / f"{use}.npz") for use in ("calibration", "evaluation"))
    order = Order("digits", "1.0", calibration, evaluation, base=DIGITS, now_s=1, precisions=(Precision.INT8,))
    made = build.build(open_model(DIGITS / "digits.onnx"), target.load(TARGET), order, lambda line: None).contents
    assert made is not None
    return made


def make_bundle(place: Path, given: Contents | None = None, **changes: Any) -> Bundle:
    """A signed bundle of the digits; changes are of its manifest."""
    given = given or contents()
    place.parent.mkdir(parents=True, exist_ok=True)
    return bundle.write(replace(given, manifest=replace(given.manifest, **changes)), place, signing.signer(None))


def of_other_bytes() -> Contents:
    """The digits in a model file that is not the same byte for byte."""
    model = onnx.load_from_string(contents().model)
    model.doc_string = "another"
    return replace(contents(), model=model.SerializeToString())


def of_another_model() -> Contents:
    """The digits with golden outputs that another model gave."""
    vectors = golden.parse(contents().golden)
    wrong = [replace(v, expected={k: np.flip(a, 1) for k, a in v.expected.items()}) for v in vectors]
    return replace(contents(), golden=golden.dump(wrong))


def part_of(root: Path, part: str) -> Path:
    """The file of a bundle's part."""
    index = json.loads((root / "index.json").read_text())["manifests"]
    image, signature = (entry["digest"] for entry in index)
    bundle = json.loads(blob_path(root, image).read_bytes())
    digests = {
        "image": image,
        "manifest": bundle["config"]["digest"],
        "model": bundle["layers"][0]["digest"],
        "golden": bundle["layers"][1]["digest"],
        "signature's image": signature,
        "signature": json.loads(blob_path(root, signature).read_bytes())["layers"][0]["digest"],
    }
    return blob_path(root, digests[part])


def flip(file: Path) -> None:
    """One bit of the byte in the middle."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    assert hashlib.sha256(data).hexdigest() != file.name
    file.write_bytes(data)
