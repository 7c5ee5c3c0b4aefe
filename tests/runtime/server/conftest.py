from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from edgekit.signing import Signer
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.manifest import EngineNeed
from edgekit_server.launch import Terms
from tests.runtime.bundles import contents, write
from tests.runtime.server.house import House, install_moody


@pytest.fixture
def open_house(home: Path) -> Iterator[Callable[..., House]]:
    """Residents of the device's folder, with these terms; they end with the test."""
    with ExitStack() as stack:

        def opened(*apps: str, **terms: Any) -> House:
            return stack.enter_context(closing(House(home, Terms(home, **terms), apps)))

        yield opened


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Where the engine of moods is."""
    return install_moody(tmp_path / "site")


@pytest.fixture
def moody(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch, signer: Signer) -> Callable[..., Bundle]:
    """Bundles for the engine of moods, which multiplies by so much."""
    monkeypatch.setenv("PYTHONPATH", str(site))

    def made(times: int, **changes: Any) -> Bundle:
        need = EngineNeed("moody", threads=times)
        given = contents(times, **{"engines": (need,), **changes})
        return write(tmp_path / f"moody-{times}-{len(list(tmp_path.iterdir()))}", signer, given)

    return made
