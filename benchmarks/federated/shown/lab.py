"""Lab: a project and runtimes on this machine that serve one model: folders, three SSH servers, an emulated board.

Needs what `edgekit device setup --offline` and `edgekit device simulate` need. Nothing of the caller's is touched but
the cache of wheels.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federated.shown.scenes import scenes
from edgekit import fleet, simulate, transports
from edgekit import target as targets
from edgekit.cli.places import DEVICES
from edgekit.fleet import Device
from edgekit.lab import sshd
from edgekit_train.samples import Samples
from tests.lab.models import shared

APP, OVER_SSH = "shop", 3
TARGET, BOARD = f"generic-{platform.machine().replace('_', '-')}", "raspberry-pi-5"
TOML = f"""app = "{APP}"
model = "resnet8.tflite"
targets = [{{targets}}]
features = true
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
"""
MODEL = "resnet8_cifar10/resnet8_cifar10_float32.tflite"
PERSON = {"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state", "XDG_DATA_HOME": "data"}


@dataclass(frozen=True)
class Lab:
    """``homes``: the EDGEKIT_HOME of each device. ``board``: the device that is emulated, where one is."""

    folder: Path
    homes: dict[str, Path]
    board: str | None = None

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def edgekit(self, *words: str) -> dict[str, Any]:
        """What the command prints with --json. Raises: subprocess.CalledProcessError, after what it said."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        person = {name: str(self.folder / "person" / place) for name, place in PERSON.items()}
        known = {name: value for name, value in os.environ.items() if not name.startswith("EDGEKIT_")}
        environment = {**known, **person, "XDG_CACHE_HOME": str(cache)}
        command = [sys.executable, "-m", "edgekit", *words, "--json"]
        done = subprocess.run(command, cwd=self.project, env=environment, stdout=subprocess.PIPE, check=True)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def keep(self, name: str, places: list[int], labels: NDArray[np.int64]) -> None:
        """Let a device have seen these scenes, and nothing else, with these labels for all scenes."""
        if name != self.board:
            _keep(self.homes[name], places, labels)
            return
        with TemporaryDirectory() as here, transports.connect(fleet.find(self.project, name).uri) as link:
            _keep(Path(here), places, labels)
            there = f"{self.homes[name]}/samples"
            link.run(["rm", "-rf", there]).check()
            link.run(["mkdir", "-p", "-m", "700", there, f"{there}/{APP}"]).check()
            for file in Path(here, "samples", APP).glob("*.npz"):
                link.put(file, f"{there}/{APP}/{file.name}")

    def bend(self, name: str, lie: str) -> None:
        """Let a device lie so, see ``lying_device``, or be honest again for "". The board is always honest."""
        home = self.homes[name]
        (home / "first.npz").unlink(missing_ok=True)
        (home / "lie").write_text(lie)

    def switch_off(self, name: str) -> None:
        """Of those behind SSH: nobody answers there any more."""
        sshd.halt(self.project / DEVICES / name)


@contextmanager
def lab(names: list[str], board: str | None = None) -> Iterator[Lab]:
    """Devices that serve the model, until the block ends; ``board``: the one of them that is to be emulated."""
    with TemporaryDirectory(prefix="edgekit-benchmark-") as place:
        folder = Path(place)
        kinds = dict.fromkeys(names[:OVER_SSH], (TARGET, simulate.PLAIN))
        if board:
            kinds[board] = BOARD, simulate.Kind.of(targets.load(BOARD))
        made = Lab(folder, {name: folder / name for name in names if name not in kinds}, board)
        _write_project(made)
        try:
            for name, (target, kind) in kinds.items():
                device = simulate.start(name, made.project / DEVICES, kind)
                made.homes[name] = device.home
                fleet.add(made.project, Device(name, device.uri, target))
            _set_up(made, names)
            yield made
        finally:
            for name in kinds:
                simulate.stop(name, made.project / DEVICES)


def _write_project(made: Lab) -> None:
    for place in (made.project, made.folder / "person"):
        place.mkdir()
    of = scenes()
    np.savez(made.project / "calibration.npz", x=_float(of.seen[::4, 0]))
    np.savez(made.project / "evaluation.npz", x=_float(of.judged), labels=of.judged_labels)
    shutil.copy(shared(MODEL), made.project / "resnet8.tflite")
    served = (TARGET, BOARD) if made.board else (TARGET,)
    (made.project / "edgekit.toml").write_text(TOML.format(targets=", ".join(f'"{name}"' for name in served)))
    for name, home in made.homes.items():
        fleet.add(made.project, Device(name, f"local:{home}", TARGET))


def _set_up(made: Lab, names: list[str]) -> None:
    """The first one for real; its environment and its trust do for the others, but for the board."""
    made.edgekit("build")
    made.edgekit("device", "setup", names[0], "--train", "--offline")
    first = made.homes[names[0]]
    _make_bendable(first / "env")
    for name in names[1:]:
        if name == made.board:
            made.edgekit("device", "setup", name, "--train", "--offline")
            continue
        home = made.homes[name]
        shutil.copytree(first / "trust", home / "trust", ignore=shutil.ignore_patterns("device_key*"))
        (home / "env").symlink_to((first / "env").resolve())
    made.edgekit("push", "--to", "all")


def _keep(home: Path, places: list[int], labels: NDArray[np.int64]) -> None:
    """In place of what was kept there."""
    shutil.rmtree(home / "samples", ignore_errors=True)
    with Samples(APP, home) as kept:
        for place in places:
            for view in scenes().seen[place]:
                kept.keep(_float(view)[None], int(labels[place]))


def _make_bendable(env: Path) -> None:
    """What a device imports that shall lie, in the environment that all of them share."""
    [packages] = env.glob("lib/python3*/site-packages")
    shutil.copy(Path(__file__).with_name("lies.py"), packages / "edgekit_lies.py")
    shutil.copy(Path(__file__).with_name("lying_device.py"), packages / "edgekit_lying.py")
    (packages / "edgekit_lying.pth").write_text("import edgekit_lying\n")


def _float(pictures: NDArray[Any]) -> NDArray[np.float32]:
    """As the float model takes them: 0 to 255."""
    return np.asarray(pictures, np.float32) + 128
