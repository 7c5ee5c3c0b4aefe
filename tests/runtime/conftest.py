from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.signing import Signer
from tests.runtime.bundles import Parcels, contents, make_key, write

RUNTIME = Path(__file__).parents[2] / "runtime"


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """A real key, made for this run."""
    return make_key(tmp_path_factory.mktemp("keys") / "signer")


@pytest.fixture(autouse=True)
def nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path_factory.mktemp("person")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(place))
    monkeypatch.setenv("EDGEKIT_HOME", str(place / "edgekit"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signer: Signer) -> Path:
    """A device's folder that trusts the signer, and has nothing installed."""
    place = tmp_path / "home"
    monkeypatch.setenv("EDGEKIT_HOME", str(place))
    (place / "trust").mkdir(parents=True)
    (place / "trust" / "allowed_signers").write_text(f"{signer.allowed_line()}\n")
    return place


@pytest.fixture(scope="session")
def parcels(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Parcels:
    place = tmp_path_factory.mktemp("bundles")
    return Parcels(
        write(place / "1", signer, contents(1)),
        write(place / "2", signer, contents(2)),
        write(place / "3", signer, contents(3, app="other")),
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime as devices get it."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--wheel-dir", str(place), str(RUNTIME)], check=True)
    (made,) = place.iterdir()
    return made
