"""The `edgekit` command in a process that need not start: forked from one that has imported what commands need.

It has arguments, a folder, an environment, output and an exit status of its own. Of the process that it is forked from
are what is imported and the seed of hashes: where a test is about one of these, it says ``started``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import tests.lab.waiting  # noqa: F401 — what is forked waits like what forks

COMMANDS = (
    "bench build bundle collect dashboard device export init live push remove report rollout round round_desk simulate "
    "target trust why"
)
IMPORTED = (
    "edgekit.__main__",
    *(f"edgekit.cli.{name}" for name in COMMANDS.split()),
    *(f"edgekit.{name}" for name in ("build", "provision", "rolling", "transports.local", "transports.ssh")),
    *("edgekit.passes.quantize_onnx", "edgekit.passes.quantize_tflite", "onnxruntime.quantization"),
    *("ai_edge_litert.interpreter", "rich.console", "rich.table", "sqlalchemy"),
)
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(list(IMPORTED))


def run(words: list[str], seconds: float) -> tuple[int, str, str]:
    """Run the command in this folder, with this environment: its exit status, standard output and standard error."""
    with tempfile.TemporaryDirectory() as place:
        files = [f"{place}/{name}" for name in ("out", "err")]
        process = FORKS.Process(target=_be_edgekit, args=(words, str(Path.cwd()), dict(os.environ), files))
        process.start()
        process.join(seconds)
        hangs = process.exitcode is None
        if hangs:
            process.kill()
            process.join()
        status = process.exitcode or 0
        process.close()
        out, err = (Path(file).read_text() for file in files)
    assert not hangs, f"edgekit {' '.join(words)} hangs\n{out}\n{err}"
    return status, out, err


def _be_edgekit(words: list[str], folder: str, environment: dict[str, str], files: list[str]) -> None:
    """What the system does for `python -m edgekit`."""
    for number, file in enumerate((os.devnull, *files)):
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.path[0], sys.argv = folder, ["edgekit", *words]
    from edgekit.__main__ import main

    main()
