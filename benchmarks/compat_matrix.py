"""Artifacts × engines: what ``edgekit.compat`` says of each pair against what the engine really does.

    python benchmarks/compat_matrix.py                    all engines, newest and old
    python benchmarks/compat_matrix.py --installed        the engines of this environment only
    python benchmarks/compat_matrix.py --nodes            and each operator × type of ONNX in a model of its own (loads)
    python benchmarks/compat_matrix.py --output FILE      all pairs as JSON

Each engine gets an environment of its own in the user's cache (made on the first run; that needs an index) and a
process of its own, so that an artifact that takes it down ends no other. Artifacts are made here; the pretrained
models beside the checkout are added where they lie there. Exit status 1 when a verdict is wrong, or too many unknown.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import compat_engines
import compat_nodes
import compat_onnx_artifacts
import compat_tflite_artifacts
import numpy as np
import onnx
from compat_engines import Outcome

from edgekit import compat
from edgekit.cli.output import print_table
from edgekit.compat import fingerprint
from edgekit.compat.fingerprint import Fingerprint
from edgekit.compat.verdict import Engine

ONNXRUNTIMES = ("1.16.3", "1.19.2", "1.20.1", "1.23.2")
TFLITES = (("tflite", "2.14.0"), ("litert", "2.1.0"))
MOST_UNKNOWN = 0.1
SHARED = Path(__file__).parents[2] / "shared" / "models"
NO_KERNEL = re.compile(
    r"NOT_IMPLEMENTED|only \*guarantees\*|model IR version|is not a registered function|No Op registered"
)
"""What onnxruntime says of what it lacks, rather than of a made-up attribute."""


@dataclass(frozen=True)
class Artifact:
    label: str
    path: Path
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Pair:
    """``outcome`` is ``loads`` for an artifact that was loaded and run, else ``refused``."""

    artifact: str
    engine: str
    verdict: str
    reason: str
    outcome: str
    error: str

    @property
    def wrong(self) -> bool:
        return self.verdict not in ("unknown", self.outcome)


def main(words: list[str]) -> int:
    options = _options(words)
    with tempfile.TemporaryDirectory() as folder:
        engines = list(_engines(options.installed))
        pairs = _pairs(_artifacts(Path(folder)), engines)
        if options.nodes:
            pairs += _node_pairs(Path(folder), [each for each in engines if each.name == "onnxruntime"])
    if options.output:
        options.output.write_text(json.dumps([asdict(pair) for pair in pairs], indent=1))
    _print(pairs)
    unknown = sum(pair.verdict == "unknown" for pair in pairs)
    wrong = sum(pair.wrong for pair in pairs)
    print(f"{len(pairs)} pairs, {wrong} wrong, {unknown} unknown ({unknown / len(pairs):.1%})")
    return int(wrong > 0 or unknown >= MOST_UNKNOWN * len(pairs))


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--installed", action="store_true")
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("--output", type=Path)
    return parser.parse_args(words)


def _engines(installed: bool) -> Iterator[Engine]:
    if not installed:
        yield from (Engine("onnxruntime", version) for version in ONNXRUNTIMES)
        yield from (Engine(*each) for each in TFLITES)
    yield from (
        Engine(name, metadata.version(compat_engines.DISTRIBUTIONS[name])) for name in ("onnxruntime", "litert")
    )


def _artifacts(folder: Path) -> Iterator[Artifact]:
    for number, (label, onnx_model) in enumerate(compat_onnx_artifacts.artifacts()):
        path = folder / f"{number}.onnx"
        onnx.save(onnx_model, path)
        np.savez(f"{path}.npz", **compat_onnx_artifacts.feeds(onnx_model))
        yield Artifact(label, path, fingerprint.read(path))
    for number, (label, model) in enumerate((*compat_tflite_artifacts.artifacts(), *_shared(".tflite"))):
        path = folder / f"{number}.tflite"
        path.write_bytes(model)
        np.savez(f"{path}.npz", **compat_tflite_artifacts.feeds(model))
        yield Artifact(label, path, fingerprint.read(path))
    for label, model in _shared(".onnx"):
        path = folder / label
        path.write_bytes(model)
        np.savez(f"{path}.npz", **_of_picture(onnx.load(path)))
        yield Artifact(label, path, fingerprint.read(path))


def _shared(suffix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(SHARED.rglob(f"*{suffix}")):
        yield path.name, path.read_bytes()


def _of_picture(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Free sizes of pictures are those of a text line."""
    for value in model.graph.input:
        for size, dim in zip((1, 3, 48, 192), value.type.tensor_type.shape.dim, strict=False):
            dim.dim_value = dim.dim_value if dim.dim_value > 0 else size
    return compat_onnx_artifacts.feeds(model)


def _pairs(artifacts: Iterator[Artifact], engines: list[Engine]) -> list[Pair]:
    made, pairs = list(artifacts), []
    for engine in engines:
        form = compat.RULES[engine.name].format
        own = [each for each in made if each.fingerprint.format is form]
        for artifact, outcome in zip(own, _attempt(engine, [each.path for each in own]), strict=False):
            verdict = compat.judge(artifact.fingerprint, engine)
            real = "loads" if outcome.loads else "refused"
            pairs.append(Pair(artifact.label, str(engine), verdict.answer, verdict.reason, real, outcome.error))
    return pairs


def _attempt(engine: Engine, paths: list[Path]) -> list[Outcome]:
    """Nothing where no environment can be made: it is said, and the others go on."""
    python = compat_engines.environment(engine.name, engine.version)
    print(f"{engine}: {len(paths)} artifacts" if python else f"{engine}: left out", file=sys.stderr)
    return compat_engines.attempt(python, engine.name, paths) if python else []


def _node_pairs(folder: Path, engines: list[Engine]) -> list[Pair]:
    """Loads only: attributes are made up. One refused for another reason than a lack says nothing, and is left out."""
    made = []
    for number, (label, model) in enumerate(compat_nodes.nodes()):
        path = folder / f"node{number}.onnx"
        onnx.save(model, path)
        np.savez(f"{path}.npz")
        made.append(Artifact(label, path, fingerprint.read(path)))
    pairs = []
    for engine in engines:
        for artifact, outcome in zip(made, _attempt(engine, [each.path for each in made]), strict=False):
            if outcome.stage != "load" or NO_KERNEL.search(outcome.error):
                verdict = compat.judge(artifact.fingerprint, engine)
                real = "refused" if outcome.stage == "load" else "loads"
                pairs.append(Pair(artifact.label, str(engine), verdict.answer, verdict.reason, real, outcome.error))
    return pairs


def _print(pairs: list[Pair]) -> None:
    counts: dict[str, Counter[str]] = {}
    for pair in pairs:
        kind = "wrong" if pair.wrong else "unknown" if pair.verdict == "unknown" else f"right: {pair.verdict}"
        counts.setdefault(pair.engine, Counter())[kind] += 1
    columns = ("right: loads", "right: refused", "wrong", "unknown")
    rows = [(engine, sum(each.values()), *(each[name] for name in columns)) for engine, each in counts.items()]
    print_table(("engine", "pairs", *columns), rows)
    for pair in pairs:
        if pair.wrong:
            print(
                f"wrong: {pair.artifact} on {pair.engine}: {pair.verdict} ({pair.reason}); {pair.outcome}: {pair.error}"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
