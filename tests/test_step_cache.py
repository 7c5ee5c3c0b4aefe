from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import tools
from edgekit.building import step_cache
from edgekit.building.step_cache import StepCache
from edgekit.model import Model, open_model
from tests.lab.models import dense

Work = Callable[[str], Path]
PARTS = {"step": "a", "n": 1}


class Maker:
    """Makes a model in the folder that was asked for last, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def __call__(self) -> Model:
        self.count += 1
        return open_model(dense(self.folder / "made.onnx"))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    (tmp_path / "made").mkdir()
    return Maker(tmp_path / "made")


@pytest.fixture
def cache(tmp_path: Path) -> StepCache:
    return StepCache(tmp_path / "cache")


@pytest.fixture
def work(tmp_path: Path, maker: Maker) -> Callable[[str], Path]:
    """A new folder for a step, in which the maker makes what it makes."""

    def new(name: str) -> Path:
        maker.folder = tmp_path / name
        maker.folder.mkdir()
        return maker.folder

    return new


def test_the_second_time_it_is_there(tmp_path: Path, cache: StepCache, maker: Maker, work: Work) -> None:
    first = cache.model(PARTS, work("1"), maker)
    second = cache.model(PARTS, work("2"), maker)
    assert maker.count == 1
    assert second.path == tmp_path / "2" / "made.onnx"
    assert second.path.read_bytes() == first.path.read_bytes()
    assert (second.inputs, second.outputs, second.digest) == (first.inputs, first.outputs, first.digest)


def test_another_part_is_another_entry(tmp_path: Path, cache: StepCache, maker: Maker, work: Work) -> None:
    for number, parts in enumerate([PARTS, {**PARTS, "n": 2}, {**PARTS, "m": None}]):
        cache.model(parts, work(str(number)), maker)
    assert maker.count == 3


def test_other_tools_and_other_code_are_other_entries(
    tmp_path: Path, cache: StepCache, maker: Maker, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.model(PARTS, work("1"), maker)
    monkeypatch.setattr(tools, "version", lambda name: "0")
    cache.model(PARTS, work("2"), maker)
    monkeypatch.setattr(step_cache, "_code", lambda: "changed")
    cache.model(PARTS, work("3"), maker)
    assert maker.count == 3


@pytest.mark.parametrize("harm", ["cut", "changed", "no file", "no document", "no JSON", "other JSON", "empty"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, cache: StepCache, maker: Maker, work: Work, harm: str) -> None:
    cache.model(PARTS, work("1"), maker)
    (entry,) = (tmp_path / "cache").iterdir()
    file, document = entry / "made.onnx", entry / step_cache.DOCUMENT
    data = file.read_bytes()
    match harm:
        case "cut":
            file.write_bytes(data[:-1])
        case "changed":
            file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "no file":
            file.unlink()
        case "no document":
            document.unlink()
        case "no JSON":
            document.write_text("{")
        case "other JSON":
            document.write_text('["made.onnx"]')
        case "empty":
            file.unlink()
            document.unlink()
    found = cache.model(PARTS, work("2"), maker)
    assert maker.count == 2
    assert found.path.read_bytes() == data
    cache.model(PARTS, work("3"), maker)
    assert maker.count == 2


def test_without_a_folder_nothing_is_kept(tmp_path: Path, maker: Maker, work: Work) -> None:
    for name in "12":
        StepCache().model(PARTS, work(name), maker)
    assert maker.count == 2


def test_where_nothing_can_be_written_the_model_is_made_all_the_same(tmp_path: Path, maker: Maker, work: Work) -> None:
    (tmp_path / "file").write_text("")
    assert StepCache(tmp_path / "file").model(PARTS, work("1"), maker).path.exists()


def test_an_error_leaves_nothing(tmp_path: Path, cache: StepCache, maker: Maker, work: Work) -> None:
    def fail() -> Model:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.model(PARTS, work("1"), fail)
    cache.model(PARTS, work("2"), maker)
    assert maker.count == 1


def test_what_was_not_used_for_longest_goes(
    tmp_path: Path, cache: StepCache, maker: Maker, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        cache.model({"n": n}, work(str(n)), maker)
    entries = {n: tmp_path / "cache" / step_cache._key({"n": n}) for n in range(3)}
    for n, age in ((0, 10), (1, 30), (2, 20)):
        os.utime(entries[n], (1e9 - age, 1e9 - age))
    size = sum(file.stat().st_size for file in entries[0].iterdir())
    monkeypatch.setattr(step_cache, "LIMIT_BYTES", 2 * size + size // 2)
    cache.model({"n": 1}, work("used"), maker)
    cache.model({"n": 3}, work("3"), maker)
    assert [n for n in range(3) if entries[n].exists()] == [1]


def test_what_was_taken_as_it_is_is_not_kept(tmp_path: Path, cache: StepCache, maker: Maker, work: Work) -> None:
    """A SavedModel is a folder, which is not copied about."""
    folder = work("1")
    maker.folder = tmp_path
    for _ in range(2):
        assert cache.model(PARTS, folder, maker).path == tmp_path / "made.onnx"
    assert maker.count == 2
    assert not (tmp_path / "cache").exists()


def test_documents_too(tmp_path: Path, cache: StepCache) -> None:
    made = []

    def make() -> dict[str, object]:
        made.append(1)
        return {"kept": ["ä"], "n": 1.5}

    assert cache.document(PARTS, make) == cache.document(PARTS, make) == {"kept": ["ä"], "n": 1.5}
    assert len(made) == 1
    (entry,) = (tmp_path / "cache").iterdir()
    told = (entry / step_cache.DOCUMENT).read_text()
    (entry / step_cache.DOCUMENT).write_text(told.replace("1.5", "2.5"))
    assert cache.document(PARTS, make) == {"kept": ["ä"], "n": 1.5}
    assert len(made) == 2
