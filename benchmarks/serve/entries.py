"""Entries: the servers, each with the dialect that carries a tensor in the fewest bytes there."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.serve.task import CLASSES, NAME, SHAPE, Task
from benchmarks.serve.wire import V2_BASE64, V2_BINARY, Dialect, raw
from edgekit import environments
from edgekit.environments import Environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Tell = Callable[[str], None]


def _environment(name: str, size: str) -> Environment:
    return Environment(f"serve-{name}", HERE / "locks" / f"{name}.txt", size)


TRITON = _environment("triton", "120 MB to fetch")
KEPT = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class Bench:
    """What a server is started with: the task, a folder of its own, and a free port; the two after it are free too."""

    task: Task
    folder: Path
    port: int
    tell: Tell


@dataclass(frozen=True)
class Command:
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """``command``: of the server. It raises EdgekitError where the server cannot be had."""

    name: str
    dialect: Dialect
    command: Callable[[Bench], Command]


def peers() -> tuple[Entry, ...]:
    """In the order of the table."""
    mlserver, size = "mlserver", "90 MB to fetch"
    return (
        Entry("Flask, waitress", raw("/infer"), _of("flask", "45 MB to fetch")),
        Entry("FastAPI, uvicorn", raw("/infer"), _of("fastapi", "50 MB to fetch")),
        Entry("LitServe", raw("/predict"), _of("litserve", "55 MB to fetch")),
        Entry("KServe SDK", V2_BINARY, _of("kserve", "110 MB to fetch")),
        Entry("MLServer", V2_BASE64, _of(mlserver, size)),
        Entry("MLServer, own route", raw("/infer"), _of(mlserver, size)),
        Entry("Triton, Python backend", V2_BINARY, _triton),
        Entry("PyTriton", V2_BINARY, _pytriton),
    )


def _of(name: str, size: str) -> Callable[[Bench], Command]:
    return partial(_script, _environment(name, size), name)


def _script(environment: Environment, name: str, bench: Bench) -> Command:
    python = environments.ensure(environment, bench.tell)
    words = [str(python), "-m", f"benchmarks.serve.peers.{name}_server", str(bench.task.model), str(bench.port)]
    return Command(words, in_environment(python))


def in_environment(python: Path) -> dict[str, str]:
    """What a program of the environment sees of ours."""
    known = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**known, "PATH": f"{python.parent}:{known.get('PATH', '')}", "PYTHONPATH": str(ROOT)}


def _pytriton(bench: Bench) -> Command:
    started = _script(TRITON, "pytriton", bench)
    return Command(started.words, started.environment | _own_libpython())


def _own_libpython() -> dict[str, str]:
    """Triton's Python backend takes the first libpython that it finds: the system's may be of another release."""
    return {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}


def _triton(bench: Bench) -> Command:
    """Triton as it lies in PyTriton's wheel, without PyTriton: the model runs in the backend's own process."""
    python = environments.ensure(TRITON, bench.tell)
    server = next(TRITON.folder.glob("lib/python*/site-packages")) / "pytriton" / "tritonserver"
    options = {
        "model-repository": _repository(bench),
        "backend-directory": _backends(server, bench.folder),
        "http-address": "127.0.0.1",
        "http-port": bench.port,
        "allow-grpc": "false",
        "allow-metrics": "false",
    }
    words = [str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    return Command(words, in_environment(python) | _own_libpython())


def _repository(bench: Bench) -> Path:
    place = bench.folder / "repository" / NAME
    (place / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "peers" / "triton_model.py", place / "1" / "model.py")
    shutil.copy(HERE / "peers" / "engine.py", place / "1")  # the backend sets PYTHONPATH anew
    (place / "config.pbtxt").write_text(
        f'name: "{NAME}"\nbackend: "python"\nmax_batch_size: 0\n'
        f'input [{{name: "x" data_type: TYPE_FP32 dims: {list(SHAPE)}}}]\n'
        f'output [{{name: "y" data_type: TYPE_FP32 dims: {[1, CLASSES]}}}]\n'
        "instance_group [{kind: KIND_CPU count: 1}]\n"
        f'parameters [{{key: "net" value: {{string_value: "{bench.task.model}"}}}}]\n'
    )
    return place.parent


def _backends(server: Path, folder: Path) -> Path:
    """The wheel keeps the backend's stubs, one for each Python, apart from it."""
    place = folder / "backends"
    shutil.copytree(server / "backends", place, dirs_exist_ok=True)
    stub = server / "python_backend_stubs" / ".".join(map(str, sys.version_info[:2])) / "triton_python_backend_stub"
    (place / "python" / stub.name).symlink_to(stub)  # not copied: it finds its libraries beside it
    return place
