"""Who else is at work: this machine as it is, and one from a folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit_watch import busy
from edgekit_watch.busy import Others
from tests.lab.project import until


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def stat(root: Path, *ticks: int) -> None:
    (root / "stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 2 3\n")


def test_neither_idling_nor_own_work_is_that_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "PROC", tmp_path)
    stat(tmp_path, 100, 0, 100, 800, 0, 0, 0, 0, 50, 0)
    others = Others()
    stat(tmp_path, 130, 0, 120, 1640, 110, 0, 0, 0, 99, 0)
    assert others.share() == pytest.approx(0.05, abs=0.005)
    spin(0.1)
    stat(tmp_path, 150, 0, 120, 2620, 110, 0, 0, 0, 99, 0)
    assert others.share() == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu x\n", None])
def test_where_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is not None:
        (tmp_path / "stat").write_text(text)
    monkeypatch.setattr(busy, "PROC", tmp_path)
    others = Others()
    assert others.share() == 0
    assert others.programs() == {}


def test_another_program_is_named() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            until(lambda: any(name.startswith("python") for name in seen()), 20)  # others may be at work, too
        finally:
            other.kill()


def seen() -> dict[str, float]:
    others = Others()
    time.sleep(0.3)
    found = others.programs()
    assert all(busy.NOTABLE <= share <= 1 for share in found.values())
    assert len(found) <= busy.MOST
    return found
