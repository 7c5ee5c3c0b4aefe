"""The memory of candidates, each in a process of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.building import memory
from edgekit.bundle import Contents
from edgekit.errors import EngineError
from edgekit.model import open_model
from edgekit_runtime import golden
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from tests.lab.models import shared
from tests.runtime.bundles import MANIFEST

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def candidate(name: str) -> Contents:
    """A pretrained TFLite model, with inputs of ones."""
    model = open_model(shared(name))
    inputs = {spec.name: np.ones([size or 1 for size in spec.shape], spec.dtype) for spec in model.inputs}
    interface = Interface(model.inputs, model.outputs)
    manifest = replace(MANIFEST, format="tflite", engines=(EngineNeed("litert"),), interface=interface)
    return Contents(manifest, model.path.read_bytes(), golden.dump([golden.Vector(inputs, {}, {})]))


@linux
def test_a_model_of_eight_bits_takes_less_than_the_same_in_float() -> None:
    """At least what its weights are smaller by."""
    whole, small = (
        candidate(f"mobilenetv1_025_vww/mobilenetv1_025_96_vww_{each}.tflite") for each in ("float32", "int8")
    )
    difference = (memory.peak_mib(whole) or 0) - (memory.peak_mib(small) or 0)
    assert difference > (len(whole.model) - len(small.model)) / 2**20


@linux
def test_what_does_not_run_by_itself_is_named() -> None:
    broken = replace(candidate("dscnn_kws/dscnn_kws_int8.tflite"), model=b"junk")
    with pytest.raises(EngineError, match="its memory cannot be measured: litert .* cannot load the model"):
        memory.peak_mib(broken)


@linux
def test_a_process_that_says_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = candidate("dscnn_kws/dscnn_kws_int8.tflite")
    for script, told in (("exit 9", "the process was killed"), ("echo no memory >&2; exit 1", "no memory")):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o700)
        monkeypatch.setattr(memory.sys, "executable", str(python))
        with pytest.raises(EngineError, match=f"its memory cannot be measured: {told}"):
            memory.peak_mib(given)


def test_elsewhere_than_on_linux_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    given = candidate("dscnn_kws/dscnn_kws_int8.tflite")
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.peak_mib(given) is None
