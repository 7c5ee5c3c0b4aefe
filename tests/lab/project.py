"""A person's project for tests: a home of its own, the `edgekit` command, and devices that are set up.

A test file imports the fixtures that it needs. An environment with an engine is dear, so it is made once, for real, and
shared: a device of a test has a link to it in its home.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from edgekit import fleet, provision, signing, simulate, target, transports
from edgekit.fleet import Device
from edgekit.provision import Provisioned
from edgekit.simulate import Simulated
from tests.lab.bundles import TARGET

EDGEKIT = (sys.executable, "-m", "edgekit")
INTERRUPTED = (130, -signal.SIGINT)
"""A shell shows 130 for both; Python dies by the signal if it hit an import of native code."""


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The one line on standard error. (The progress before it goes there, too.)"""
        said = [line for line in self.stderr.splitlines() if line.startswith("edgekit: ")]
        assert len(said) == 1, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        return said[0]

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        document: dict[str, Any] = json.loads(self.stdout)
        assert document["schema_version"] == 1
        return document


def edgekit(*words: str | Path, status: int = 0) -> Ran:
    """Run the command in the current folder; it has to end with that exit status."""
    done = subprocess.run([*EDGEKIT, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return Ran(done.returncode, done.stdout, done.stderr)


def document(*words: str | Path, status: int = 0) -> dict[str, Any]:
    """What a command prints with --json."""
    return edgekit(*words, "--json", status=status).document


def settle(folder: Path, shared: Path, patch: pytest.MonkeyPatch) -> Path:
    """A person whose home is in ``folder`` and who stands in an empty project there."""
    for name in ("person", "project"):
        (folder / name).mkdir()
    for variable, place in {
        "HOME": folder / "person",
        "XDG_CONFIG_HOME": folder / "person" / "config",
        "XDG_STATE_HOME": folder / "person" / "state",
        "XDG_CACHE_HOME": shared / "cache",  # wheels are fetched once
    }.items():
        patch.setenv(variable, str(place))
    for variable in ("SSH_AUTH_SOCK", "EDGEKIT_STORE", "EDGEKIT_HOME"):
        patch.delenv(variable, raising=False)
    patch.chdir(folder / "project")
    return folder / "project"


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project in an empty home."""
    return settle(tmp_path, tmp_path_factory.getbasetemp(), monkeypatch)


@dataclass(frozen=True)
class FirstDevice:
    """The device that was set up for real: what it said before, with which surroundings, and what came of it."""

    home: Path
    environ: dict[str, str]
    python_says: str
    impostor: Path
    done: Provisioned


@cache
def first_device(shared: Path) -> FirstDevice:
    """Set up by `edgekit device setup --offline` under bad conditions, with the first engine of this machine's target.

    Its python3 has no pip, an index that its pip would ask has another edgekit-runtime, and its home has rubbish.
    """
    home, folder = shared / "first" / "a home", shared / "first"
    folder.mkdir()
    for name, hours in (("old", 2.0), ("young", 0.5), ("old.wheels", 2.0)):
        (home / "envs" / name).mkdir(parents=True)
        os.utime(home / "envs" / name, (time.time() - hours * 3600,) * 2)
    with pytest.MonkeyPatch.context() as patch, transports.connect(f"local:{home}") as link:
        settle(folder, shared, patch)
        patch.setenv("PATH", f"{_python_without_pip(folder)}:{os.environ['PATH']}")
        other = _impostor(folder)
        patch.setenv("PIP_FIND_LINKS", str(other.parent))
        profile, signer = target.load(TARGET), signing.signer(None)
        says = link.run(["python3", "-c", "import ensurepip"]).stderr.decode()
        done = provision.setup(link, profile, profile.engines[0], signer, lambda line: None, offline=True)
        environ = {name: os.environ[name] for name in ("PATH", "XDG_CONFIG_HOME")}
    return FirstDevice(home, environ, says, other, done)


def environment(shared: Path) -> Path:
    """An environment with the runtime and an engine, to which a device's `env` may lead."""
    return (first_device(shared).home / "env").resolve()


def _python_without_pip(folder: Path) -> Path:
    """A python3 of its own, as Debian has it without python3-venv; the folder for PATH."""
    real = Path(os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]
    library, own = Path(sysconfig.get_paths()["stdlib"]), folder / "python"
    (own / "bin").mkdir(parents=True)
    (own / "lib" / library.name).mkdir(parents=True)
    shutil.copy2(real, own / "bin" / "python3")
    for entry in library.iterdir():
        if entry.name not in ("ensurepip", "site-packages", "__pycache__"):
            (own / "lib" / library.name / entry.name).symlink_to(entry)
    for shared in (real.parent.parent / "lib").glob("libpython3*"):
        (own / "lib" / shared.name).symlink_to(shared)
    return own / "bin"


def _impostor(folder: Path) -> Path:
    """Somebody else's wheel, of the runtime's name and version."""
    metadata = "Metadata-Version: 2.1\nName: edgekit-runtime\nVersion: 0.1.0\n"
    info, files = "edgekit_runtime-0.1.0.dist-info", {"edgekit_runtime/__init__.py": "raise SystemExit('impostor')\n"}
    files |= {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    (folder / "index").mkdir()
    place = folder / "index" / "edgekit_runtime-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return place


def equip(home: Path, shared: Path) -> None:
    """Make a home one that has been set up from this project."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "env").symlink_to(environment(shared))
    (home / "trust").mkdir()
    (home / "trust" / "allowed_signers").write_text(f"{signing.signer(None).allowed_line()}\n")


@pytest.fixture
def desk(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A device of the project, set up: a folder of this machine."""
    return local_device("desk", project, tmp_path_factory.getbasetemp())


def local_device(name: str, project: Path, shared: Path) -> Device:
    equip(project / name, shared)
    device = Device(name, f"local:{project / name}", TARGET)
    fleet.add(project, device)
    return device


@pytest.fixture
def pi(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    """A device of the project, set up, behind a real sshd."""
    yield from ssh_device("pi", project, tmp_path_factory.getbasetemp())


def ssh_device(name: str, project: Path, shared: Path) -> Iterator[Simulated]:
    state = project / ".edgekit" / "devices"
    try:
        device = simulate.start(name, state)
        assert device.kind == "ssh", device.note
        equip(device.home, shared)
        fleet.add(project, Device(name, device.uri, TARGET))
        yield device
    finally:
        simulate.stop(name, state)


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with its bytes, every link with where it leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
