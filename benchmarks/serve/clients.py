"""The standard clients of Triton's protocol, in environments of their own: ``tritonclient`` and ``perf_analyzer``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serve.entries import TRITON, Command, Tell, in_environment
from edgekit import environments
from edgekit.environments import Environment

CLIENTS = Environment("serve-clients", Path(__file__).parent / "locks" / "clients.txt", "30 MB to fetch")
LACKING = ("libb64.so.0d", "libcudart.so.12")


def tritonclient(tell: Tell) -> Path:
    """The interpreter of an environment with ``tritonclient`` for HTTP and gRPC, the newest. Raises: EdgekitError."""
    return environments.ensure(CLIENTS, tell)


def perf_analyzer(tell: Tell) -> Command:
    """It came with ``tritonclient`` up to 2.60, since 2.52 for glibc 2.38; PyPI's ``perf-analyzer`` is empty.

    The libraries that its machine is to have lie in PyTriton's wheel, under names of their own. Raises: EdgekitError.
    """
    python = environments.ensure(TRITON, tell)
    there = next(TRITON.folder.glob("lib/python*/site-packages/nvidia_pytriton.libs"))
    libraries = TRITON.folder / "lib" / "perf_analyzer"
    libraries.mkdir(exist_ok=True)
    for name in LACKING:
        stem, _, version = name.partition(".so")
        if not (libraries / name).exists():
            (libraries / name).symlink_to(next(there.glob(f"{stem}-*.so{version}*")))
    known = in_environment(python) | {"LD_LIBRARY_PATH": str(libraries)}
    return Command([str(python.with_name("perf_analyzer"))], known)
