"""A SuperLink and SuperNodes as people start them, on loopback, each with a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgekit import pip, wheels
from tests.lab.collecting import Process
from tests.lab.ports import free_port

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "flower.md"
FILES = re.compile(r"^```\w+ (\S+\.\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BEGINNINGS = re.compile(r"^\| `(\w+)` \| `([^`]+)`.* \| `([\w.]+)`, `(\w+)` \|$", re.MULTILINE)
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Programs:
    """Flower's, of an environment, where devices have their own wheels and the host has this checkout besides."""

    python: Path
    folder: Path

    def command(self, *words: str | Path, **more: str) -> list[str]:
        """In an environment of nothing but what is said here."""
        path = f"{self.scripts}:{os.defpath}"
        home = {"HOME": str(self.folder), "FLWR_HOME": str(self.folder / "flwr"), "PYTHONPATH": str(self.wheels)}
        said = {"PATH": path, **home, **QUIET, **more}
        return ["env", "-i", *(f"{name}={value}" for name, value in said.items()), *(str(word) for word in words)]

    def host(self, *words: str | Path) -> list[str]:
        return self.command(*words, PYTHONPATH=f"{ROOT}:{ROOT / 'runtime'}")

    def run(self, app: Path, **config: str | int) -> str:
        """An app until its run has ended; what was logged."""
        settings = " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())
        words = self.host("flwr", "run", app, "link", "--stream", "--run-config", settings)
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def end(self) -> None:
        """What was started by what was started here, and has outlived it."""
        mark = f"FLWR_HOME={self.folder / 'flwr'}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    os.kill(int(place.name), signal.SIGKILL)

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def scripts(self) -> Path:
        return self.folder / "bin"

    def install(self) -> None:
        """Flower's programs, which name the place that the environment was made in and start each other by name; and
        what devices get of us, as they get it.
        """
        self.scripts.mkdir()
        for script in self.python.parent.glob("fl*w*r*"):
            place = self.scripts / script.name
            place.write_text(f"#!{self.python}\n{script.read_text().partition(chr(10))[2]}")
            place.chmod(0o700)
        made = [str(wheels.own(name)) for name in ("edgekit_runtime", "edgekit_train")]
        quiet = ["--quiet", "--no-deps", "--no-index", "--target", str(self.wheels)]
        subprocess.run([*pip.COMMAND, "install", *quiet, *made], check=True)


@contextmanager
def running(programs: Programs, homes: Sequence[Path]) -> Iterator[dict[str, Process]]:
    """A SuperLink, and a SuperNode for each device's home, by its name.

    All have ended afterwards, with what they have started.
    """
    port = free_port()
    settings = programs.folder / "flwr" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[superlink.link]\naddress = "127.0.0.1:{port}"\ninsecure = true\n')
    link = ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--port", str(port)]
    node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
    with ExitStack() as stack:
        stack.callback(programs.end)
        stack.enter_context(_process(programs.host(*link), programs.folder / "link.log", port))
        nodes = dict[str, Process]()
        for home in homes:
            own = free_port()
            command = programs.command(*node, "--port", str(own), EDGEKIT_HOME=str(home))
            nodes[home.name] = stack.enter_context(_process(command, programs.folder / f"{home.name}.log", own))
        yield nodes


@contextmanager
def _process(command: list[str], log: Path, port: int) -> Iterator[Process]:
    process = Process(command, log, port)
    process.start()
    try:
        yield process
    finally:
        if process.started and process.started.poll() is None:
            process.kill(signal.SIGTERM)


def guide(folder: Path) -> Path:
    """The app of docs/flower.md, as it stands there."""
    folder.mkdir()
    for name, text in FILES.findall(GUIDE.read_text()):
        (folder / name).write_text(text)
    return folder


def begin_otherwise(app: Path, trainer: str) -> None:
    """Have the guide's app ask for that trainer, and begin with what the guide says that it begins with."""
    known = {found[0]: found[1:] for found in BEGINNINGS.findall(GUIDE.read_text())}
    begins, place, name = known[trainer]
    server = app / "server.py"
    text = server.read_text().replace("head.weights_of(source)", begins)
    asked = f'train_config=ConfigRecord({{"trainer": "{trainer}"}}), num_rounds='
    lines = f"from flwr.app import ConfigRecord\nfrom {place} import {name}\n"
    server.write_text(lines + text.replace("num_rounds=", asked))
