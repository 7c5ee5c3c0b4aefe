"""The command for fleets: one model to 1, 10 and 50 machines at once. See ``benchmarks/README.md``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import click

from benchmarks.push.course import Model, copied_to, empty, models
from edgekit import fleet, signing, simulate
from edgekit.cli.output import print_table
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from edgekit.signing import Signer
from edgekit.simulate import Simulated
from tests.runtime.bundles import MANIFEST

TIMEOUT_S = 900
FABRIC = """\
import json, sys
from concurrent.futures import ThreadPoolExecutor
from fabric import Connection
from fabric.config import Config
from paramiko.config import SSHConfig
known = SSHConfig.from_path(sys.argv[1])
def bring(each):
    with Connection(each[0], config=Config(ssh_config=known)) as link:
        link.put(sys.argv[2], each[1])
hosts = json.loads(sys.argv[3])
with ThreadPoolExecutor(len(hosts)) as pool:
    list(pool.map(bring, hosts.items()))
"""
PYINFRA = """\
from pyinfra import host
from pyinfra.operations import files
files.put(src={source!r}, dest=host.data.dest)
"""


@dataclass(frozen=True)
class Crew:
    """Some devices, and a project in ``folder`` whose fleet they are; ``peers``: an environment with the others."""

    folder: Path
    devices: tuple[Simulated, ...]
    signer: Signer
    peers: Path | None

    @property
    def targets(self) -> dict[str, str]:
        """Where the others put the model on each device."""
        return {each.name: str(copied_to(each)) for each in self.devices}

    @property
    def configuration(self) -> Path:
        """The way to all of them, for ssh."""
        file = self.folder / "ssh_config"
        file.write_text("".join((each.folder / "ssh_config").read_text() for each in self.devices))
        return file

    def empty(self) -> None:
        """Devices that are set up and have nothing."""
        for each in self.devices:
            empty(each, self.signer)


Bring = Callable[[Crew, Model], None]


def edgekit_push(crew: Crew, model: Model) -> None:
    _run([sys.executable, "-m", "edgekit", "push", model.bundle.root, "--to", "all"], crew.folder)


def scp(crew: Crew, model: Model) -> None:
    """All at once, which nobody would do by hand: the bare bytes."""
    way = ["scp", "-q", "-F", str(crew.configuration), str(model.file)]
    running = [subprocess.Popen([*way, f"{name}:{place}"]) for name, place in crew.targets.items()]
    if any(each.wait(TIMEOUT_S) for each in running):
        raise EdgekitError("scp failed")


def ansible(crew: Crew, model: Model) -> None:
    hosts = crew.folder / "hosts.ini"
    hosts.write_text("".join(f"{name} dest={place}\n" for name, place in crew.targets.items()))
    how = [f"--ssh-common-args=-F {crew.configuration}", "-e", f"ansible_python_interpreter={sys.executable}"]
    what = ["-m", "copy", "-a", f"src={model.file} dest={{{{ dest }}}}", "-f", str(len(crew.devices))]
    _run([_of(crew, "ansible"), "all", "-i", hosts, *how, *what], crew.folder)


def pyinfra(crew: Crew, model: Model) -> None:
    hosts = [
        (name, {"dest": place, "ssh_config_file": str(crew.configuration)}) for name, place in crew.targets.items()
    ]
    (crew.folder / "inventory.py").write_text(f"hosts = {hosts!r}\n")
    (crew.folder / "deploy.py").write_text(PYINFRA.format(source=str(model.file)))
    _run([_of(crew, "pyinfra"), "-y", "--parallel", str(len(hosts)), "inventory.py", "deploy.py"], crew.folder)


def fabric(crew: Crew, model: Model) -> None:
    _run([_of(crew, "python"), "-c", FABRIC, crew.configuration, model.file, json.dumps(crew.targets)], crew.folder)


OURS: dict[str, Bring] = {"edgekit push": edgekit_push, "scp, all at once": scp}
OTHERS: dict[str, Bring] = {"Ansible copy": ansible, "pyinfra": pyinfra, "Fabric": fabric}


@click.command()
@click.option("--peers", type=click.Path(path_type=Path, exists=True), help="An environment with the Python tools.")
@click.option("--devices", default="1,10,50", show_default=True, help="How many, one table column each.")
def main(peers: Path | None, devices: str) -> None:
    """A push of 16 MiB to many machines at once beside other ways; wall seconds of the command."""
    sizes, found = [int(each) for each in devices.split(",")], dict[tuple[str, int], str]()
    taking_part = {**OURS, **(OTHERS if peers else {})}
    with _devices(max(sizes)) as (folder, signer, all_devices):
        model = models("int8", folder, signer)["first time"]
        for size in sizes:
            crew = _enlisted(Crew(folder / str(size), all_devices[:size], signer, peers))
            for name, bring in taking_part.items():
                found[name, size] = _timed(crew, name, bring, model)
    columns = ("entry", *(f"{size} devices, s" for size in sizes))
    print_table(columns, [(name, *(found[name, size] for size in sizes)) for name in taking_part])


def _timed(crew: Crew, name: str, bring: Bring, model: Model) -> str:
    crew.empty()
    started = monotonic()
    try:
        bring(crew, model)
    except EdgekitError as error:
        click.echo(f"{name}: {error}", err=True)
        return "failed"
    return f"{monotonic() - started:.1f}"


@contextmanager
def _devices(number: int) -> Iterator[tuple[Path, Signer, tuple[Simulated, ...]]]:
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            os.environ[variable] = str(folder / variable.split("_")[1].lower())
        started = []
        for index in range(number):
            stack.callback(simulate.stop, f"pole-{index}", folder / "devices")
            started.append(simulate.start(f"pole-{index}", folder / "devices"))
        yield folder, signing.signer(None), tuple(started)


def _enlisted(crew: Crew) -> Crew:
    crew.folder.mkdir()
    for each in crew.devices:
        fleet.add(crew.folder, Device(each.name, each.uri, MANIFEST.target))
    return crew


def _of(crew: Crew, program: str) -> Path:
    assert crew.peers
    return crew.peers.absolute() / "bin" / program


def _run(command: Sequence[str | Path], where: Path) -> None:
    done = subprocess.run(list(command), cwd=where, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise EdgekitError(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()[-400:]}")


if __name__ == "__main__":
    main()
