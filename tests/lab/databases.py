"""Databases: each test gets an empty one, of SQLite and of a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import pytest

NAMES = count()


def programs() -> Path | None:
    """The folder of Debian's newest PostgreSQL."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((each.parent for each in found), key=lambda folder: int(folder.parent.name), default=None)


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL in a folder, with a port of its own; it takes whoever comes from this machine."""

    folder: Path
    bin: Path
    port: int
    fsync: str = "off"

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def run(self, *command: str) -> None:
        """One of its programs, by a user who is not root, for it takes no other."""
        user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        with TemporaryFile("w+") as said:  # no pipe: the server would keep it open
            words = [*user, str(self.bin / command[0]), *command[1:]]
            done = subprocess.run(words, cwd=self.folder, stdout=said, stderr=said, timeout=60)
            said.seek(0)
            assert done.returncode == 0, said.read()

    def start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "max_connections": "200", "fsync": self.fsync}
        words = [f"-p {self.port} -k {self.folder}", *(f"-c {name}={value}" for name, value in settings.items())]
        self._control("-l", str(self.folder / "log"), "-o", " ".join(words), "start")

    def stop(self, how: str = "fast") -> None:
        self._control("-m", how, "stop")

    def _control(self, *words: str) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", *words)

    def create(self) -> str:
        """The URL of an empty database."""
        name = f"store_{next(NAMES)}"
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return self.url(name)


@contextmanager
def cluster(folder: Path, bin: Path, fsync: str = "off") -> Iterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    made = Cluster(folder, bin, port, fsync)
    made.run("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
    made.start()
    try:
        yield made
    finally:
        made.stop("immediate")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    bin = programs()
    if bin is None:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    folder = TemporaryDirectory(prefix="edgekit-postgresql-", ignore_cleanup_errors=True)
    with folder as name, cluster(Path(name), bin) as made:
        yield made


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite_url", pytest.param("postgresql_url", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    """Of an empty database, of either kind."""
    made: str = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def postgresql_url(postgresql: Cluster) -> str:
    return postgresql.create()
