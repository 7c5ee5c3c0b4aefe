"""The examples of docs/runtime.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import edgekit_runtime
from edgekit.signing import Signer
from tests.runtime.bundles import go_live, tflite_contents, write

GUIDE = Path(__file__).parents[2] / "docs" / "runtime.md"
EXAMPLES = re.findall("^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_some() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.partition("\n")[0] for example in EXAMPLES])
def test_it_runs(home: Path, signer: Signer, tmp_path: Path, example: str) -> None:
    go_live(write(tmp_path / "bundle", signer, tflite_contents("litert", app="digits")), home)
    array = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)
    with edgekit_runtime.load("digits") as session:
        given = {"session": session, "array": array, "frames": [array] * 5}
        exec(compile(example, str(GUIDE), "exec"), given)
