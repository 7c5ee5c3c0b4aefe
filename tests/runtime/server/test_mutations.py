"""Bodies that went through the mangle: each is read as what the model takes, or refused in one short line."""

from __future__ import annotations

import json
import random
from types import ModuleType

import numpy as np
import pytest

from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec
from edgekit_server import oip, tfserving
from tests.runtime.server.requests import ALL_OPTIONS, PERF_ANALYZER, SMALL, TRITONCLIENT, tensor

X = TensorSpec("x", "float32", (None, 3, 2, 2))
ONE = Interface((X,), (TensorSpec("y", "float32", (None, 10)),))
TWO = Interface((X, TensorSpec("n", "int32", (None,))), SMALL.outputs)
OUTPUTS = {"y": np.zeros((2, 10), np.float32), "z": np.zeros(2, np.int64)}

BINARY = [each.replace(b"3,96,96", b"3,2,2").replace(b"110592", b"48") for each in (TRITONCLIENT, ALL_OPTIONS)]
BINARY.append(PERF_ANALYZER.replace(b"3,96,96", b"3,2,2").replace(b"110592", b"48"))
SAMPLE = np.arange(12.0).reshape(3, 2, 2).tolist()
JSON: list[tuple[ModuleType, Interface, object]] = [
    (oip, SMALL, tensor()),
    (tfserving, TWO, {"instances": [{"n": 1, "x": SAMPLE}, {"n": 2, "x": SAMPLE}]}),
    (tfserving, TWO, {"inputs": {"n": [1, 2], "x": [SAMPLE] * 2}, "signature_name": "serving_default"}),
]
SEEDS = [(oip, ONE, header, bytes(48)) for header in BINARY]
SEEDS += [(dialect, interface, json.dumps(document).encode(), b"") for dialect, interface, document in JSON]
TOKENS = [*rb'[ ] { } , : " 0 - 2 null true NaN -1 1e999 [[ \ud800 [] {} [1,3,2,2]'.split(), b"9" * 5000, b"\xff"]


def mangled(header: bytes, dice: random.Random) -> bytes:
    """Words put in, bytes changed, pieces doubled or left out, in a few places."""
    out = bytearray(header)
    for _ in range(dice.randint(1, 4)):
        start, end = sorted(dice.randrange(len(out) + 1) for _ in range(2))
        near = min(end, start + dice.randint(0, 12))
        out[start:near] = dice.choice([dice.choice(TOKENS), dice.randbytes(1), out[start:end] * 2, b""])
    return bytes(out)


@pytest.mark.parametrize("seeds", [range(1_000), pytest.param(range(1_000, 10_000), marks=pytest.mark.slow)])
def test_a_mangled_body_is_read_or_refused(seeds: range) -> None:
    refused = 0
    for seed in seeds:
        dice = random.Random(seed)
        dialect, interface, header, tail = dice.choice(SEEDS)
        header = mangled(header, dice)
        length = dice.choice([len(header) if tail else None] * 9 + [len(header) + dice.randint(-3, 60)])
        try:
            asked = dialect.decode(memoryview(header + tail), length, interface)
        except InvalidInput as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 400
        else:
            interface.feeds(asked.feeds)
            dialect.encode(asked, OUTPUTS, "m", "1")
    assert len(seeds) // 2 < refused < len(seeds)
