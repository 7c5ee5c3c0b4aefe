"""A person's project for tests: a home of its own, the `edgekit` command, and devices that are set up.

A test file imports the fixtures that it needs. An environment with an engine is dear, so it is made once, for real, and
shared: a device of a test has a link to it in its home.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copy2, copytree
from typing import Any

import pytest

from edgekit import fleet, provision, push, signing, target, transports
from edgekit.device import call
from edgekit.fleet import Device
from edgekit.provision import Provisioned
from edgekit.simulate import Simulated
from edgekit_runtime.bundle import Bundle
from tests.lab import command
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.sshd import running

EDGEKIT = (sys.executable, "-m", "edgekit")
INTERRUPTED = (130, -signal.SIGINT)
"""A shell shows 130 for both; Python dies by the signal if it hit an import of native code."""


def had_begun(status: int, told: str) -> bool:
    """Whether a command that Ctrl-C has ended was edgekit by then, and not yet Python on the way to it."""
    early = status == -signal.SIGINT and (not told or told.endswith("KeyboardInterrupt\n"))
    return not (early or (status == 1 and told.startswith("Fatal Python error: init_import_site: ")))


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
    return _ended(Ran(*command.run([str(word) for word in words], seconds=100)), status)


def started(*words: str | Path, status: int = 0) -> Ran:
    """The same as a person starts it: everything is imported anew."""
    done = subprocess.run([*EDGEKIT, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100)
    return _ended(Ran(done.returncode, done.stdout, done.stderr), status)


def _ended(ran: Ran, status: int) -> Ran:
    assert ran.status == status, f"{ran.status}\n{ran.stdout}\n{ran.stderr}"
    return ran


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
    """An empty project in a home that holds nothing but the signing key that all tests share."""
    return _settle_with_key(tmp_path, tmp_path_factory.getbasetemp(), monkeypatch)


def _settle_with_key(folder: Path, shared: Path, patch: pytest.MonkeyPatch) -> Path:
    project = settle(folder, shared, patch)
    copytree(_keys(shared), signing.default_key().parent)
    return project


@cache
def _keys(shared: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(shared / "keys"))
        return signing.signer(None).key.parent


@dataclass(frozen=True)
class FirstDevice:
    """The device that was set up for real: with which PATH, what it said before, and what came of it."""

    home: Path
    path: str
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
        _settle_with_key(folder, shared, patch)
        patch.setenv("PATH", f"{_python_without_pip(folder)}:{os.environ['PATH']}")
        other = _impostor(folder)
        patch.setenv("PIP_FIND_LINKS", str(other.parent))
        profile, signer = target.load(TARGET), signing.signer(None)
        says = link.run(["python3", "-c", "import ensurepip"]).stderr.decode()
        done = provision.setup(link, profile, profile.engines[0], signer, lambda line: None, offline=True)
        return FirstDevice(home, os.environ["PATH"], says, other, done)


def environment(shared: Path) -> Path:
    """An environment with the runtime and an engine, to which a device's `env` may lead."""
    return (first_device(shared).home / "env").resolve()


def _python_without_pip(folder: Path) -> Path:
    """A python3 of its own, as Debian has it without python3-venv; the folder for PATH."""
    real = Path(os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]
    library, own = Path(sysconfig.get_paths()["stdlib"]), folder / "python"
    (own / "bin").mkdir(parents=True)
    (own / "lib" / library.name).mkdir(parents=True)
    copy2(real, own / "bin" / "python3")
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


@dataclass(frozen=True)
class Served:
    """A device that serves ``second``, and served ``first`` before."""

    device: Device
    home: Path
    first: Bundle
    second: Bundle


@cache
def _served(shared: Path) -> tuple[Path, Bundle, Bundle]:
    """The home that tests get copies of: it was really pushed to, twice."""
    with pytest.MonkeyPatch.context() as patch:
        (shared / "served").mkdir()
        project = _settle_with_key(shared / "served", shared, patch)
        device = local_device("desk", project, shared)
        made = [make_bundle(project / f"bundles/{n}", sequence=n, version=f"1.{n}") for n in (1, 2)]
        with transports.connect(device.uri) as link:
            for each in made:
                push.push(push.open_parcel(each.root), device, link, lambda line: None)
                call(link, "confirm", "digits")
    return project / "desk", made[0], made[1]


@pytest.fixture
def served(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A device of the project, a folder of this machine, with two releases of the digits."""
    device = Device("desk", f"local:{project / 'desk'}", TARGET)
    fleet.add(project, device)
    return Served(device, *copy_of_served(project / "desk", tmp_path_factory.getbasetemp()))


def copy_of_served(home: Path, shared: Path) -> tuple[Path, Bundle, Bundle]:
    original, first, second = _served(shared)
    copytree(original, home, symlinks=True, dirs_exist_ok=True)
    return home, first, second


def local_device(name: str, project: Path, shared: Path) -> Device:
    equip(project / name, shared)
    device = Device(name, f"local:{project / name}", TARGET)
    fleet.add(project, device)
    return device


@pytest.fixture
def pi(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    """A device of the project, set up, behind a real sshd."""
    with _simulated(project) as device:
        equip(device.home, tmp_path_factory.getbasetemp())
        yield device


@pytest.fixture
def served_pi(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    """The same with two releases of the digits."""
    with _simulated(project) as device:
        copy_of_served(device.home, tmp_path_factory.getbasetemp())
        yield device


@contextmanager
def _simulated(project: Path) -> Iterator[Simulated]:
    with running("pi", project / ".edgekit" / "devices") as device:
        fleet.add(project, Device("pi", device.uri, TARGET))
        yield device


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with its bytes, every link with where it leads; not what Python keeps of an import."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.parent.name != "__pycache__")
    }


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
