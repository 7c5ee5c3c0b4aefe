"""Makes edgekit/compat/tables/onnxruntime.json anew: what each onnxruntime release says of itself, and loads at most.

    python benchmarks/compat_tables.py

Kernels and operator schemas come from the releases' own registries (``get_all_opkernel_def``, which every wheel has);
the newest operator sets and IR version, and the operators that a release takes apart by their definition for want of
a kernel, from loading models of one node. Look through the diff before committing it: a release that lost kernels is
worth a look into its notes.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import compat_engines
import compat_nodes
import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.compat import fingerprint_onnx, ort_kernels

TABLE = Path(__file__).parents[1] / "edgekit" / "compat" / "tables" / "onnxruntime.json"
RELEASES = [
    "1.16.3",
    "1.17.3",
    "1.18.1",
    "1.19.2",
    "1.20.1",
    "1.21.1",
    "1.22.1",
    "1.23.2",
    "1.24.4",
    "1.25.1",
    "1.26.0",
    "1.27.0",
    "1.28.0",
    "1.29.0",
    "1.30.0",
    "1.31.1",
]
DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
OPEN = 2**31 - 1
IR_VERSIONS, OPSETS, ML_OPSETS = range(3, 16), range(7, 31), range(1, 9)

Combination = dict[tuple[int, ...], frozenset[str]]
"""A kernel: the types that it takes at those places; inputs count from 0, outputs from -1 down."""


def main() -> None:
    pythons = {version: compat_engines.environment("onnxruntime", version) for version in RELEASES}
    told = {version: compat_engines.kernels(python) for version, python in pythons.items() if python}
    with tempfile.TemporaryDirectory() as folder:
        releases = [{"version": v, **limits(pythons[v], Path(folder))} for v in told]
    rows = list(table(list(told.values())))
    sets = sorted({types for *_, kernel in rows for types in kernel.values()}, key=sorted)
    newest = sorted(each for each in list(told.values())[-1]["schemas"] if each[0] == DOMAINS[-1])
    parts = {
        "releases": releases,
        "types": [sorted(each) for each in sets],
        "contrib": [[name, types(inputs), types(outputs)] for _, name, _, inputs, outputs in newest],
        "opened": [],
        "kernels": [written(row, sets) for row in rows],
    }
    write(parts)
    write({**parts, "opened": opened([pythons[version] for version in told])})
    print(f"{TABLE.name}: {len(releases)} releases, {len(rows)} kernels, {TABLE.stat().st_size} bytes")


def write(parts: dict[str, list[Any]]) -> None:
    """One row a line, so that a diff can be read."""
    rows = {name: ",\n  ".join(json.dumps(row) for row in part) for name, part in parts.items()}
    body = ",\n".join(f' "{name}": [\n  {part}\n ]' if part else f' "{name}": []' for name, part in rows.items())
    TABLE.write_text("{\n" + body + "\n}\n")


def opened(pythons: list[Path | None]) -> list[Any]:
    """Name, version and spans of releases of the operators that loaded with types for which there is no kernel.

    In float16 they prove nothing: a release casts to float32 there.
    """
    seen: dict[tuple[str, int], set[int]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        bodied = []
        for number, (_, model) in enumerate(compat_nodes.nodes()):
            found = [each for each in fingerprint_onnx.of_model(model).operators if each.body]
            if found and "float16" not in found[0].inputs:
                bodied.append((found[0], saved(Path(folder) / f"{number}.onnx", model)))
        for release, python in enumerate(pythons):
            lacking = [(each, path) for each, path in bodied if ort_kernels.has(each, release) is False]
            outcomes = compat_engines.attempt(python, "onnxruntime", [path for _, path in lacking]) if python else []
            for (each, _), outcome in zip(lacking, outcomes, strict=True):
                if outcome.stage != "load":
                    seen[each.name, each.version].add(release)
    return [[*key, spans(list(releases))] for key, releases in sorted(seen.items())]


def table(told: list[dict[str, Any]]) -> Iterable[tuple[str, str, int, list[list[int]], Combination]]:
    """Domain, operator, version, spans of releases (by index), kernel; in that order."""
    seen: dict[tuple[str, str, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    kept: dict[str, Combination] = {}
    for release, facts in enumerate(told):
        by_name = defaultdict(list)
        for domain, name, first, last, constraints in facts["kernels"]:
            by_name[domain, name].append((first, last, constraints))
        for domain, name, since, inputs, outputs in facts["schemas"]:
            taken = [each[2] for each in by_name[domain, name] if takes(each, since)]
            for kernel in (
                merged([placed(constraints, inputs, outputs) for constraints in taken]) if domain in DOMAINS else ()
            ):
                key = repr(sorted((places, sorted(allowed)) for places, allowed in kernel.items()))
                kept[key] = kernel
                seen[domain, name, since][key].append(release)
    for domain, name, since in sorted(seen):
        for key, releases in sorted(seen[domain, name, since].items()):
            yield domain, name, since, spans(releases), kept[key]


def takes(kernel: tuple[int, int, Any], since: int) -> bool:
    """Whether a kernel serves a node of that operator version (onnxruntime's KernelRegistry::VerifyKernelDef)."""
    first, last, _ = kernel
    return first == since or (first < since <= last and last != OPEN)


def placed(constraints: dict[str, list[str]], inputs: list[Any], outputs: list[Any]) -> Combination:
    """Constraints by place rather than by a parameter's name, which has changed between releases."""
    formals = [*enumerate(inputs), *((~place, each) for place, each in enumerate(outputs))]
    found = {}
    for parameter, allowed in constraints.items():
        places = [place for place, (_, kind, _) in formals if kind == parameter]
        places = places or [place for place, (name, _, _) in formals if name == parameter]
        found[tuple(places)] = frozenset(map(short, allowed))
    return found


def merged(kernels: list[Combination]) -> list[Combination]:
    """Kernels that differ in the types of one parameter only are one."""
    for at, kernel in enumerate(kernels):
        for other in kernels[at + 1 :]:
            differing = [places for places in kernel if kernel[places] != other.get(places)]
            if kernel.keys() == other.keys() and len(differing) <= 1:
                joined = {places: kernel[places] | other[places] for places in kernel}
                rest = [each for each in kernels if each is not kernel and each is not other]
                return merged([joined, *rest])
    return kernels


def spans(releases: list[int]) -> list[list[int]]:
    """The first and the last of each unbroken run."""
    runs: list[list[int]] = []
    for release in sorted(set(releases)):
        if runs and runs[-1][1] == release - 1:
            runs[-1][1] = release
        else:
            runs.append([release, release])
    return runs


def written(row: tuple[str, str, int, list[list[int]], Combination], sets: list[frozenset[str]]) -> list[Any]:
    domain, name, since, runs, kernel = row
    return [
        domain,
        name,
        since,
        runs,
        [[list(places), sets.index(allowed)] for places, allowed in sorted(kernel.items())],
    ]


def types(formals: list[Any]) -> list[str]:
    return [short(kind) for _, kind, _ in formals]


def short(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind


def limits(python: Path | None, folder: Path) -> dict[str, int]:
    """The newest that a release loads, by real loads of models with one node."""
    assert python is not None

    def newest(values: range, make: Callable[[int], onnx.ModelProto]) -> int:
        paths = [saved(folder / f"{value}.onnx", make(value)) for value in values]
        outcomes = compat_engines.attempt(python, "onnxruntime", paths)
        return max(value for value, outcome in zip(values, outcomes, strict=True) if outcome.loads)

    return {
        "opset": newest(OPSETS, lambda value: one_node([("", value)])),
        "ml_opset": newest(
            ML_OPSETS, lambda value: one_node([("", 13), ("ai.onnx.ml", value)], "Scaler", "ai.onnx.ml")
        ),
        "ir_version": newest(IR_VERSIONS, lambda value: one_node([("", 13)], ir_version=value)),
    }


def one_node(
    opsets: list[tuple[str, int]], name: str = "Relu", domain: str = "", ir_version: int = 8
) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, 4]) for each in "xy"]
    attributes = {"offset": [0.0], "scale": [1.0]} if name == "Scaler" else {}
    node = helper.make_node(name, ["x"], ["y"], domain=domain, **attributes)
    graph = helper.make_graph([node], "graph", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in opsets])
    model.ir_version = ir_version
    return model


def saved(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    np.savez(f"{path}.npz", x=np.ones((1, 4), np.float32))
    return path


if __name__ == "__main__":
    main()
