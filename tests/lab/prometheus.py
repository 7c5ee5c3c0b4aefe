"""A real Prometheus, as Debian has it, and what its HTTP API answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.lab.project import until

PROGRAM, TOOL = "prometheus", "promtool"


def needed() -> None:
    """The test is skipped where there is none."""
    if not (shutil.which(PROGRAM) and shutil.which(TOOL)):
        pytest.skip("no prometheus here (Debian: apt install prometheus)")


def check(*words: str) -> str:
    """What promtool says, which is content."""
    done = subprocess.run([TOOL, "check", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str | list[str]) -> Any:
        """The data; an answer that is none says why."""
        query = urlencode(parameters, doseq=True)
        try:
            with urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    @property
    def is_ready(self) -> bool:
        with suppress(URLError, ConnectionError), urlopen(f"{self.url}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)
        return False


@contextmanager
def running(folder: Path, config: Path, port: int) -> Iterator[Prometheus]:
    place = folder / f"prometheus-{port}"
    command = [PROGRAM, f"--config.file={config}", f"--storage.tsdb.path={place}", "--log.level=warn"]
    with (folder / f"prometheus-{port}.log").open("wb") as log:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        process = subprocess.Popen([*command, listen], stdout=log, stderr=log)
        found = Prometheus(f"http://127.0.0.1:{port}")
        try:
            until(lambda: found.is_ready)
            yield found
        finally:
            process.terminate()
            process.wait(60)
