"""What takes part: each brings a model's file, or its bundle, to the device as its users would have it done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.push.course import Course, Model
from edgekit import device as devices
from edgekit import push as pushing
from edgekit import sending, transports
from edgekit.errors import EdgekitError

TIMEOUT_S = 300
FABRIC = """\
import sys
from fabric import Connection
from fabric.config import Config
from paramiko.config import SSHConfig
Connection("pi", config=Config(ssh_config=SSHConfig.from_path(sys.argv[1]))).put(sys.argv[2], sys.argv[3])
"""


@dataclass(frozen=True)
class Entry:
    """``what`` it does; ``bring`` raises EdgekitError when it fails."""

    name: str
    what: str
    bring: Callable[[Course, Model], None]


def entries(peers: Path | None) -> tuple[Entry, ...]:
    """All; those of ``peers``, a virtual environment's folder, only where there is one."""
    others = (_ansible(peers / "bin"), _pyinfra(peers / "bin"), _fabric(peers / "bin")) if peers else ()
    return (
        Entry("scp", "copied", _scp),
        Entry("rsync -z", "copied, compared", _rsync),
        Entry("edgekit, from Python", "signature and digests verified", _send),
        Entry("edgekit push", "the same, proven, live", _push),
        *others,
    )


def _scp(course: Course, model: Model) -> None:
    _run(["scp", "-q", "-F", course.configuration, model.file, f"pi:{course.target}"])


def _rsync(course: Course, model: Model) -> None:
    shell = f"ssh -F {course.configuration}"
    _run(["rsync", "-z", "--ignore-times", "-e", shell, model.file, f"pi:{course.target}"])


def _send(course: Course, model: Model) -> None:
    parcel = pushing.open_parcel(model.bundle.root)
    order = {"digest": model.bundle.digest, "signature": parcel.signature}
    with transports.connect(course.uri) as link, devices.conversing(link, "push", "digits") as there:
        there.hear()
        sending.send(sending.Load(model.bundle.root, parcel.blobs, order), there, lambda line: None)


def _push(course: Course, model: Model) -> None:
    _run([sys.executable, "-m", "edgekit", "push", model.bundle.root, "--to", "pi"], course.folder / "project")


def _ansible(folder: Path) -> Entry:
    def bring(course: Course, model: Model) -> None:
        how = [f"--ssh-common-args=-F {course.configuration}", "-e", f"ansible_python_interpreter={sys.executable}"]
        what = ["-m", "copy", "-a", f"src={model.file} dest={course.target}"]
        _run([folder / "ansible", "all", "-i", "pi,", *how, *what])

    return Entry("Ansible copy", "copied, compared", bring)


def _pyinfra(folder: Path) -> Entry:
    def bring(course: Course, model: Model) -> None:
        data = ["--data", f"ssh_config_file={course.configuration}"]
        what = ["files.put", f"src={model.file}", f"dest={course.target}"]
        _run([folder / "pyinfra", "-y", *data, "@ssh/pi", *what])

    return Entry("pyinfra", "copied, compared", bring)


def _fabric(folder: Path) -> Entry:
    def bring(course: Course, model: Model) -> None:
        _run([folder / "python", "-c", FABRIC, course.configuration, model.file, course.target])

    return Entry("Fabric", "copied", bring)


def _run(command: list[str | Path], where: Path | None = None) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=TIMEOUT_S, env=os.environ)
    if done.returncode:
        raise EdgekitError(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()[-300:]}")
