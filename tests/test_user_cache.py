from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import user_cache
from edgekit.errors import EdgekitError


def test_a_folder_is_made_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache.path("things") == tmp_path / "edgekit" / "things"
    assert list(tmp_path.iterdir()) == []
    assert user_cache.folder("things") == user_cache.folder("things") == user_cache.path("things")
    assert user_cache.path("things").is_dir()


def test_one_that_cannot_be_made_names_itself_and_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgekit").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EdgekitError) as caught:
        user_cache.folder("things")
    assert str(caught.value) == f"{tmp_path}/edgekit/things: cannot be made: Not a directory — look at XDG_CACHE_HOME"
