"""The audit log: what was done, when and from where; bounded, and never in the way of a way back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit_runtime import audit, switches
from edgekit_runtime.errors import Downgrade
from tests.runtime.bundles import APP, Parcels, go_live, serves


def test_a_line_says_what_when_and_from_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
    with audit.told(home, "install", digest="d") as told:
        told.update(signer="ann")
    with pytest.raises(Downgrade), audit.told(home, "switch", digest="d"):
        raise Downgrade("too old\nand more")
    first, second = lines(home)
    assert time.strptime(first.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert first == {"what": "install", "digest": "d", "signer": "ann", "from": "192.0.2.7"}
    assert (second["what"], second["code"], second["reason"]) == (
        "switch refused",
        "downgrade",
        "too old\nand more",
    )


def test_it_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LIMIT", 1000)
    for number in range(20):
        audit.write(home, "x", number=number, text="y" * 10_000)
    assert sorted(path.name for path in home.glob("audit*")) == ["audit.log", "audit.log.1"]
    assert sum(path.stat().st_size for path in home.glob("audit*")) < 4000
    assert lines(home)[-1]["number"] == 19


def test_a_line_that_a_cut_tore_spoils_no_other(home: Path) -> None:
    audit.write(home, "one")
    with (home / "audit.log").open("ab") as file:
        file.write(b'{"time": "20')
    audit.write(home, "two")
    torn = (home / "audit.log").read_bytes().splitlines()
    assert len(torn) == 3
    assert torn[1] == b'{"time": "20'


def test_writers_at_once_lose_nothing(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgekit_runtime import audit; audit.LIMIT = 4000\n"
        "for n in range(20): audit.write(Path(sys.argv[1]), 'x', who=sys.argv[2], n=n)"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(home), str(who)]) for who in range(3)]
    assert [job.wait(60) for job in jobs] == [0, 0, 0]
    kept = [each["who"] for each in lines(home, "audit.log.1") + lines(home)]
    assert len(kept) >= 40


def test_a_log_that_cannot_be_written_keeps_nobody_from_going_back(home: Path, parcels: Parcels) -> None:
    go_live(parcels.one, home)
    go_live(parcels.two, home)
    (home / "audit.log").mkdir()
    with audit.told(home, "rollback", app=APP):
        switches.rollback(home, APP, "because")
    assert serves(parcels.one)


def lines(home: Path, name: str = "audit.log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / name).read_bytes().splitlines()]
