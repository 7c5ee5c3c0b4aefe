from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import environments, wheels
from edgekit.environments import Environment, ensure
from edgekit.errors import EdgekitError

NAME = "edgekit_runtime"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """One with the runtime's own wheel in it, that no index is needed for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel = wheels.own("edgekit_runtime")
    lock = tmp_path / "lock.txt"
    version = wheel.name.split("-")[1]
    lines = ["--no-index", f"--find-links {wheel.parent}", f"{NAME}=={version} --hash=sha256:{wheels.digest(wheel)}"]
    lock.write_text("\n".join(lines))
    return Environment("trial", lock, "nothing to fetch")


def entries(environment: Environment) -> set[str]:
    return {path.suffix or "made" for path in environment.folder.parent.iterdir()}


def imports(python: Path) -> bool:
    return subprocess.run([python, "-Ic", f"import {NAME}"], check=False, capture_output=True).returncode == 0


def test_one_is_made_on_first_use_and_found_again(environment: Environment) -> None:
    told: list[str] = []
    assert not environment.made
    python = ensure(environment, told.append)
    assert ensure(environment, told.append) == python == environment.python
    assert told == ["making the environment of trial (nothing to fetch, only this once)"]
    assert imports(python)
    assert entries(environment) == {"made", ".lock"}


def test_a_half_made_one_is_no_environment_and_goes(environment: Environment) -> None:
    half = environment.folder.with_suffix(".half")
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("")
    assert not environment.made
    assert imports(ensure(environment, lambda line: None))
    assert entries(environment) == {"made", ".lock"}


@pytest.mark.slow
def test_one_whose_interpreter_has_gone_is_made_anew(environment: Environment) -> None:
    ensure(environment, lambda line: None)
    environment.python.unlink()
    environment.python.symlink_to("/nowhere/python3")
    assert not environment.made
    assert imports(ensure(environment, lambda line: None))


def test_what_cannot_be_made_is_one_line_and_leaves_nothing(environment: Environment) -> None:
    environment.lock.write_text(environment.lock.read_text().replace("sha256:", "sha256:00")[:-2])
    with pytest.raises(EdgekitError, match=r"^the environment of trial cannot be made: .* — is the package") as caught:
        ensure(environment, lambda line: None)
    assert "\n" not in str(caught.value)
    assert entries(environment) == {".lock"}


def test_a_package_that_is_not_locked_by_its_hash_is_not_installed(environment: Environment) -> None:
    environment.lock.write_text(environment.lock.read_text().partition(" --hash")[0])
    with pytest.raises(EdgekitError, match="cannot be made: .*hash"):
        ensure(environment, lambda line: None)


def test_a_cache_that_cannot_be_written(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(EdgekitError, match=r"onto|cannot be made: .* — look at XDG_CACHE_HOME"):
        ensure(environment, lambda line: None)


def test_its_place_is_that_of_what_it_is_made_from(environment: Environment) -> None:
    folder = environment.folder
    assert replace(environment, options=("--pre",)).folder != folder
    environment.lock.write_text(environment.lock.read_text() + "\n")
    assert environment.folder != folder


def test_two_at_once_make_it_once(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(lambda _: ensure(environment, told.append), range(3)))) == 1
    assert sum(line.startswith("making") for line in told) == 1
    assert set(told) <= {
        "making the environment of trial (nothing to fetch, only this once)",
        "waiting for the environment of trial, which another process makes",
    }


def test_without_the_module_venv_the_line_says_what_to_install(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "sys", type("sys", (), {**vars(sys), "executable": "/bin/false"}))
    with pytest.raises(EdgekitError, match="install Python's venv module"):
        ensure(environment, lambda line: None)
