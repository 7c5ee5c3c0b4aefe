"""Old and new engines, each in an environment of its own in the user's cache, and artifacts tried in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

CHILD = Path(__file__).with_name("compat_child.py")
RUNTIME = Path(__file__).parents[1] / "runtime"
CACHE = platformdirs.user_cache_path("edgekit") / "engines"
ARTIFACT_TIMEOUT_S, INSTALL_TIMEOUT_S = 120, 900
AT_A_TIME = 400

DISTRIBUTIONS = {"litert": "ai-edge-litert", "onnxruntime": "onnxruntime", "tflite": "tflite-runtime"}
COMPANIONS = {
    "litert": ("numpy", "backports.strenum", "flatbuffers", "protobuf", "tqdm", "typing_extensions"),
    "onnxruntime": ("numpy",),
    "tflite": ("numpy<2",),
}
"""What each engine imports; its other requirements are for its tools."""
OLD_NUMPY = {"1.15", "1.16", "1.17", "1.18"}
"""Onnxruntime of these minors is built against numpy 1."""


@dataclass(frozen=True)
class Outcome:
    """How far an artifact came: ``load`` or ``run`` is where it was stopped, ``done`` is that it ran."""

    stage: str
    error: str

    @property
    def loads(self) -> bool:
        return self.stage == "done"


def environment(engine: str, version: str) -> Path | None:
    """The interpreter of an environment with that engine; this one where it has it; None where none can be made."""
    distribution = DISTRIBUTIONS[engine]
    if _installed(distribution) == version:
        return Path(sys.executable)
    place = CACHE / f"{distribution}-{version}-{sys.implementation.cache_tag}"
    if not (place / "complete").exists() and not _make(
        place, [f"{distribution}=={version}", *_companions(engine, version)]
    ):
        return None
    return place / "bin" / "python"


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _companions(engine: str, version: str) -> tuple[str, ...]:
    old = engine == "onnxruntime" and version.rpartition(".")[0] in OLD_NUMPY
    return ("numpy<2",) if old else COMPANIONS[engine]


def _make(place: Path, requirements: list[str]) -> bool:
    """Whether it could be made: an index may lack wheels for this Python, or be out of reach."""
    shutil.rmtree(place, ignore_errors=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    for command in ([sys.executable, "-m", "venv", str(place)], [*pip, "--only-binary=:all:", *requirements]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        if done.returncode:
            shutil.rmtree(place)
            print(f"{place.name}: {done.stderr.strip().rpartition(chr(10))[2][:200]}", file=sys.stderr)
            return False
    (place / "complete").touch()
    return True


def kernels(python: Path) -> dict[str, Any]:
    """What the onnxruntime of that environment says of its own kernels and schemas."""
    done = subprocess.run(_command(python, ["--kernels"]), capture_output=True, text=True, env=_env(), check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def attempt(python: Path, engine: str, artifacts: Sequence[Path]) -> list[Outcome]:
    """Load and run each artifact there. One that takes the process down is told as such; the next get a new one."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(artifacts):
        waiting = [str(path) for path in artifacts[len(outcomes) :][:AT_A_TIME]]
        told, status = _run(_command(python, [engine, *waiting]))
        outcomes += [Outcome(line["stage"], line["error"]) for line in told]
        if len(told) < len(waiting):
            outcomes.append(Outcome("load", f"the process ended with status {status}"))
    return outcomes


def _run(command: list[str]) -> tuple[list[dict[str, str]], int]:
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=_env()) as child,
    ):
        try:
            child.wait(ARTIFACT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
        status = child.wait()
        out.seek(0)
        return [json.loads(line) for line in out if line.endswith("\n")], status


def _command(python: Path, words: list[str]) -> list[str]:
    return [str(python), "-P", str(CHILD), *words]


def _env() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(RUNTIME), "TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1"}
