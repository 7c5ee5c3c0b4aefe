"""Wheels: the runtime's and those beside it, made here; others that fit a device's Python, processor and libc."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copy2, copytree, ignore_patterns
from typing import Any

import edgekit_runtime
from edgekit import pip, user_cache
from edgekit.errors import DeviceError, EdgekitError

COMPANIONS = {"tflite-runtime": ("numpy<2",)}
"""What an engine does not say that it needs."""
OLDEST_GLIBC = 17


@dataclass(frozen=True)
class Python:
    """A device's CPython: ``version`` "3.11", ``arch`` as uname prints it, ``glibc`` the minor of 2.x."""

    version: str
    arch: str
    glibc: int

    @staticmethod
    def of(facts: dict[str, Any]) -> Python:
        """From a probe. Raises: DeviceError for a libc that no wheels are made for."""
        name, _, number = (facts["libc"] or "").partition(" ")
        if name != "glibc":
            raise DeviceError(
                f"the device's C library is {facts['libc'] or 'unknown'}", "wheels are made for glibc only"
            )
        return Python(".".join(facts["python"].split(".")[:2]), facts["arch"], int(number.split(".")[1]))

    @property
    def tag(self) -> str:
        return f"cp{self.version.replace('.', '')}-glibc2.{self.glibc}-{self.arch}"

    def platforms(self) -> list[str]:
        """All platform tags that this device takes (PEP 600), the newest first."""
        return [f"manylinux_2_{minor}_{self.arch}" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)] + [
            f"manylinux2014_{self.arch}",
            f"linux_{self.arch}",
        ]


@cache
def own(package: str) -> Path:
    """The wheel of a package for devices, such as "edgekit_runtime": of the files that run here, and the same bytes
    each time.
    """
    folder = Path(edgekit_runtime.__file__).parent.with_name(package)
    return _made(folder, _pyproject(folder) if package == "edgekit_runtime" else folder / "pyproject.toml")


def _made(package: Path, project: Path) -> Path:
    from flit_core import wheel

    with tempfile.TemporaryDirectory() as folder:
        copytree(package, Path(folder, package.name), ignore=ignore_patterns("__pycache__", "pyproject.toml"))
        copy2(project, folder)
        made = wheel.make_wheel_in(Path(folder, "pyproject.toml"), user_cache.folder("runtime"))
    return Path(made.file)


def _pyproject(package: Path) -> Path:
    """Beside the package in a checkout; shipped with edgekit when it is installed."""
    beside = package.parent / "pyproject.toml"
    if beside.exists() and beside.parent.name == "runtime":
        return beside
    return Path(__file__).parent / "runtime_project" / "pyproject.toml"


def collect(python: Python, requirements: Sequence[str]) -> list[Path]:
    """Pip's wheel, and the wheels of all requirements, for a device; kept for the next time.

    Raises: EdgekitError when the index has none that fit.
    """
    wanted = ["pip", *requirements, *(["numpy"] if requirements else [])]
    key = hashlib.sha256("\n".join([python.tag, *wanted]).encode()).hexdigest()[:16]
    folder = user_cache.folder("wheels") / key
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            _download(python, wanted, Path(fresh, key))
            if not folder.exists():  # nobody was quicker
                Path(fresh, key).rename(folder)
    return sorted(folder.glob("*.whl"))


def _download(python: Python, wanted: Sequence[str], folder: Path) -> None:
    tags = [flag for platform in python.platforms() for flag in ("--platform", platform)]
    command = [*pip.COMMAND, "download", "--quiet", "--dest", str(folder)]
    choice = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python.version, *tags]
    done = subprocess.run([*command, *choice, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        wrong = pip.complaint(done.stderr)
        raise EdgekitError(f"no wheels for {python.tag}: {wrong}", "is there a wheel for this Python and processor?")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
