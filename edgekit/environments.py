"""Environments: what clashes with edgekit's own packages runs in a virtual environment of its own, made on first use.

One lies in the user's cache, under the digest of what it was made from: its lock, the options and the interpreter.
It is made under another name and renamed when it is complete, by one process at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from edgekit import pip, user_cache
from edgekit.errors import EdgekitError

ALWAYS = ("--no-input", "--no-deps", "--only-binary", ":all:", "--require-hashes")
TIMEOUT_S = 1800
MISSING_VENV = "install Python's venv module (Debian: apt install python3-venv)"


@dataclass(frozen=True)
class Environment:
    """What is in it: a lock of pip's, with hashes; ``options`` are more of pip's. ``size`` is told beforehand."""

    name: str
    lock: Path
    size: str
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it lies, or would."""
        maker = (sys.implementation.cache_tag or "", platform.machine(), sys.base_prefix, *self.options)
        key = hashlib.sha256("\n".join(maker).encode() + self.lock.read_bytes()).hexdigest()[:16]
        return user_cache.path("environments") / f"{self.name}-{key}"

    @property
    def python(self) -> Path:
        """Its interpreter, whether it is there or not."""
        return self.folder / "bin" / "python"

    @property
    def made(self) -> bool:
        return self.python.exists()  # a link; false when the interpreter behind it has gone


def ensure(environment: Environment, tell: Callable[[str], None]) -> Path:
    """The interpreter of an environment, which is made where it is missing.

    Raises: EdgekitError when it cannot be made.
    """
    if not environment.made:
        with _alone(environment, tell):
            if not environment.made:  # nobody was quicker
                tell(f"making the environment of {environment.name} ({environment.size}, only this once)")
                _make(environment)
    return environment.python


@contextmanager
def _alone(environment: Environment, tell: Callable[[str], None]) -> Iterator[None]:
    """While no other process makes the environment; the lock falls with the process that holds it."""
    place = environment.folder.with_suffix(".lock")
    with user_cache.making(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for the environment of {environment.name}, which another process makes")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(environment: Environment) -> None:
    half = environment.folder.with_suffix(".half")
    for rubbish in (half, environment.folder):  # of one that was stopped, or whose interpreter has gone
        rmtree(rubbish, ignore_errors=True)
    try:
        _run(environment, [sys.executable, "-m", "venv", "--without-pip", str(half)], MISSING_VENV)
        install = [*pip.COMMAND, "--python", str(half), "install", "--quiet"]
        lock = ["--requirement", str(environment.lock)]
        _run(environment, [*install, *ALWAYS, *environment.options, *lock], "is the package index reachable?")
        os.sync()
        half.rename(environment.folder)
    finally:
        rmtree(half, ignore_errors=True)


def _run(environment: Environment, command: list[str], hint: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise EdgekitError(f"the environment of {environment.name} was not made in {TIMEOUT_S} s", hint) from error
    if done.returncode:
        wrong = pip.complaint(done.stderr)
        raise EdgekitError(f"the environment of {environment.name} cannot be made: {wrong[:300]}", hint)
