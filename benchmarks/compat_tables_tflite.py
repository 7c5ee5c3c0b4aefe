"""Makes edgekit/compat/tables/tflite.json anew: what tflite-runtime and LiteRT really load and run.

    python benchmarks/compat_tables_tflite.py

A runtime looks up each operator by its code and stamped version: the newest version that it finds is noted. Then each
node of ``compat_tflite_nodes`` is loaded and run: 1 ran, 0 was refused for its types or took the process down, ? is
anything else, or nodes of the same types that differ in their answer. Look through the diff before committing it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compat_engines
import compat_tflite_nodes
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from compat_engines import Outcome

from edgekit.compat import fingerprint_tflite
from edgekit.compat.fingerprint import Operator

TABLE = Path(__file__).parents[1] / "edgekit" / "compat" / "tables" / "tflite.json"
RUNTIMES = (("tflite", "2.14.0"), ("litert", "1.4.0"), ("litert", "2.1.0"), ("litert", "2.2.0"), ("litert", "2.3.0"))
VERSIONS = range(1, 25)
CUSTOM = ("AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess", "Convolution2DTransposeBias")
TYPES_REFUSED = re.compile(r"type|support|only|delegate|was optional|the process ended", re.IGNORECASE)


def main() -> None:
    pythons = [(name, compat_engines.environment(name, version)) for name, version in RUNTIMES]
    with tempfile.TemporaryDirectory() as folder:
        rows = ran(pythons, Path(folder))
        stamps = versions(pythons, Path(folder))
        brought = own(pythons, Path(folder))
    parts = {"runtimes": [list(each) for each in RUNTIMES], "custom": brought, "versions": stamps, "nodes": rows}
    body = ",\n".join(
        f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, part)) + "\n ]" for name, part in parts.items()
    )
    TABLE.write_text("{\n" + body + "\n}\n")
    print(f"{TABLE.name}: {len(RUNTIMES)} runtimes, {len(rows)} nodes, {TABLE.stat().st_size} bytes")


def ran(pythons: list[tuple[str, Path | None]], folder: Path) -> list[Any]:
    """Name, types in and out, traits, and the answers of the runtimes."""
    nodes, paths, keys = list(compat_tflite_nodes.nodes()), [], []
    for number, node in enumerate(nodes):
        path = folder / f"{number}.tflite"
        path.write_bytes(compat_tflite_nodes.model(node))
        np.savez(f"{path}.npz", **compat_tflite_nodes.feeds(node))
        paths.append(path)
        keys.append(next(each for each in fingerprint_tflite.read(path).operators if each.name == node.name))
    found: dict[Operator, list[set[str]]] = defaultdict(lambda: [set() for _ in pythons])
    for runtime, (name, python) in enumerate(pythons):
        for key, outcome in zip(keys, _attempt(python, name, paths), strict=True):
            found[key][runtime].add(_answer(outcome))
    rows = [(key, "".join(each.pop() if len(each) == 1 else "?" for each in answers)) for key, answers in found.items()]
    return [[key.name, key.inputs, key.outputs, key.traits, answers] for key, answers in sorted(rows)]


def _answer(outcome: Outcome) -> str:
    return (
        "1" if outcome.loads else "0" if TYPES_REFUSED.search(outcome.error.partition(":")[2] or outcome.error) else "?"
    )


def _attempt(python: Path | None, name: str, paths: Sequence[Path]) -> list[Outcome]:
    assert python is not None, f"no environment for {name}"
    return compat_engines.attempt(python, name, paths)


def versions(pythons: list[tuple[str, Path | None]], folder: Path) -> list[Any]:
    """Operator and its newest version in each runtime, 0 where it has none."""
    builtins = {name: code for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    tried, feed = [], np.ones((1, 4), np.float32)
    for name, code in builtins.items():
        for version in VERSIONS:
            path = folder / f"{name}-{version}.tflite"
            path.write_bytes(compat_tflite_nodes.stamped(code, version))
            np.savez(f"{path}.npz", t0=feed)
            tried.append((name, version, path))
    newest: dict[str, list[int]] = {name: [0] * len(pythons) for name in builtins}
    for runtime, (engine, python) in enumerate(pythons):
        outcomes = _attempt(python, engine, [path for *_, path in tried])
        for (name, version, _), outcome in zip(tried, outcomes, strict=True):
            if outcome.loads:
                newest[name][runtime] = max(newest[name][runtime], version)
    return [[name, found] for name, found in sorted(newest.items())]


def own(pythons: list[tuple[str, Path | None]], folder: Path) -> list[str]:
    """The custom operators that every runtime resolves."""
    paths = []
    for name in CUSTOM:
        paths.append(folder / f"custom-{name}.tflite")
        paths[-1].write_bytes(compat_tflite_nodes.custom(name))
        np.savez(f"{paths[-1]}.npz", t0=np.ones((1, 4), np.float32))
    rows = [_attempt(python, engine, paths) for engine, python in pythons]
    return [name for at, name in enumerate(CUSTOM) if all("unresolved" not in row[at].error for row in rows)]


if __name__ == "__main__":
    main()
