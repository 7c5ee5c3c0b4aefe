"""What a device tells of its spools: only what a host does not have, in parts, whatever lies in the folders."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit_runtime import reporting
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window, dump, parse

RELEASE = "sha256:" + "a" * 64
WINDOW = Window("digits", RELEASE, "0f" * 16, 0, 1000.0, 1060.0, {690: 3}, {"invalid_input": 1})


def told(part: dict[str, Any]) -> list[tuple[str, int]]:
    windows = [parse(json.dumps(each)) for each in part["windows"]]
    return [(window.session, window.seq) for window in windows]


def spool(home: Path, *windows: Window) -> None:
    for window in windows:
        Spool(home / "reports" / window.app).append(window)


def every(home: Path, have: dict[str, int]) -> list[tuple[str, int]]:
    """All parts, as a host asks for them."""
    found: list[tuple[str, int]] = []
    while True:
        part = reporting.report(home, {"have": have})
        found += told(part)
        have = {**have, **dict(told(part))}
        if not part["more"]:
            return found


class TestWhatIsNew:
    def test_all_for_a_host_that_has_nothing(self, tmp_path: Path) -> None:
        spool(tmp_path, WINDOW, replace(WINDOW, seq=1), replace(WINDOW, app="cats", session="s2"))
        part = reporting.report(tmp_path, {})
        assert sorted(told(part)) == [("0f" * 16, 0), ("0f" * 16, 1), ("s2", 0)]
        assert not part["more"] and part["now_s"] > 1e9

    def test_what_a_host_has_is_not_told_again(self, tmp_path: Path) -> None:
        spool(tmp_path, *(replace(WINDOW, session=s, seq=n) for s in ("a", "b") for n in range(3)))
        assert told(reporting.report(tmp_path, {"have": {"a": 1, "b": 2, "gone": 7}})) == [("a", 2)]

    def test_of_one_app(self, tmp_path: Path) -> None:
        spool(tmp_path, WINDOW, replace(WINDOW, app="cats", session="s2"))
        assert told(reporting.report(tmp_path, {"app": "cats"})) == [("s2", 0)]
        assert told(reporting.report(tmp_path, {"app": "../reports/cats"})) == []

    def test_nothing_at_all(self, tmp_path: Path) -> None:
        assert reporting.report(tmp_path, {"have": {}})["windows"] == []

    @pytest.mark.parametrize("asked", [{"have": []}, {"have": {"s": "1"}}, {"have": {"s": -1}}, {"have": {"s": None}}])
    def test_a_host_that_asks_badly(self, tmp_path: Path, asked: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            reporting.report(tmp_path, asked)


class TestParts:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reporting, "PART_BYTES", 2000)

    def test_each_window_comes_once_and_in_its_place(self, tmp_path: Path) -> None:
        spool(tmp_path, *(replace(WINDOW, session=s, seq=n) for n in range(40) for s in ("a", "b")))
        assert every(tmp_path, {}) == [(s, n) for s in ("a", "b") for n in range(40)]

    def test_what_is_written_meanwhile_comes_too(self, tmp_path: Path) -> None:
        spool(tmp_path, *(replace(WINDOW, seq=n) for n in range(10)))
        first = reporting.report(tmp_path, {})
        spool(tmp_path, *(replace(WINDOW, seq=n) for n in range(10, 20)))
        assert told(first) + every(tmp_path, dict(told(first))) == [("0f" * 16, n) for n in range(20)]


class TestWhatLiesThere:
    def test_lines_that_are_twice_cut_or_in_disorder(self, tmp_path: Path) -> None:
        spool(tmp_path, WINDOW)
        [file] = (tmp_path / "reports/digits").glob("*.ndjson")
        lines = [dump(replace(WINDOW, seq=n)) for n in range(9)] * 2 + [dump(WINDOW)[:50], "{}", "\0" * 9]
        random.Random(1).shuffle(lines)
        file.write_text("\n".join(lines))
        assert every(tmp_path, {}) == [("0f" * 16, n) for n in range(9)]

    def test_files_of_others(self, tmp_path: Path) -> None:
        spool(tmp_path, WINDOW)
        folder = tmp_path / "reports/digits"
        (folder / "foreign-000000000.ndjson").write_text(dump(replace(WINDOW, session="another")))
        (folder / "folder-000000000.ndjson").mkdir()
        (folder / "notes.txt").write_text(dump(replace(WINDOW, session="notes")))
        (tmp_path / "reports/file").write_text("no folder")
        assert every(tmp_path, {}) == [("0f" * 16, 0)]

    def test_files_that_hold_nothing_new_are_not_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, opened = tmp_path / "reports/digits", []
        folder.mkdir(parents=True)
        for first in range(0, 40, 10):
            lines = [dump(replace(WINDOW, session="a", seq=n)) for n in range(first, first + 10)]
            (folder / f"{first:08d}.a-{first:09d}.ndjson").write_text("\n".join(lines))
        read = reporting.spool_files.read
        monkeypatch.setattr(reporting.spool_files, "read", lambda path: opened.append(path.name) or read(path))
        assert told(reporting.report(tmp_path, {"have": {"a": 29}})) == [("a", n) for n in range(30, 40)]
        assert opened == ["00000030.a-000000030.ndjson"]
