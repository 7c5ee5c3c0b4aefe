"""The black box: the last events of an app, bounded, whatever the disk does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime import blackbox
from edgekit_runtime.blackbox import Event, event, note, read, tail
from edgekit_runtime.errors import BundleError
from tests.runtime.powercut import CUTS, REFUSALS, Loss, failing

TEXTS = st.text(max_size=30)
EVENTS = st.builds(
    Event, st.integers(0, 1 << 40), TEXTS, TEXTS, TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS), st.lists(TEXTS)
)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A home with an app's folder."""
    (tmp_path / "home/apps/a").mkdir(parents=True)
    return tmp_path / "home"


@settings(max_examples=20, deadline=None)
@given(st.lists(EVENTS, max_size=4))
def test_events_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    home = tmp_path_factory.mktemp("box")
    (home / "apps/a").mkdir(parents=True)
    for each in events:
        note(home, "a", each)
    assert read(home, "a") == events


def test_the_oldest_go_first(box: Path) -> None:
    for number in range(40):
        note(box, "a", event("x", f"sha256:{number}", tail=["y" * 100] * 30))
    kept = [each.release for each in read(box, "a")]
    assert kept == [f"sha256:{number}" for number in range(40 - len(kept), 40)]
    size = (box / "apps/a" / blackbox.FILE).stat().st_size
    assert blackbox.MOST_BYTES - 5000 < size <= blackbox.MOST_BYTES


def test_an_event_that_is_too_large_leaves_an_empty_box(box: Path) -> None:
    note(box, "a", event("x", "r", reason="y" * blackbox.MOST_BYTES))
    assert read(box, "a") == []


@pytest.mark.parametrize(
    "junk", [b"", b"\0" * 50, b"{}\n", b"[]\n", b"\xff\n", b'{"at": 1, "what": "x"}\n', b"[" * 9999]
)
def test_damaged_lines_are_skipped(box: Path, junk: bytes) -> None:
    first, second = Event(1, "x", "r"), Event(2, "y", "r")
    note(box, "a", first)
    with (box / "apps/a" / blackbox.FILE).open("ab") as file:
        file.write(junk)
    assert read(box, "a")[0] == first
    note(box, "a", second)
    assert read(box, "a")[-1] == second


def test_nothing_is_told_of_an_app_that_is_none(box: Path) -> None:
    note(box, "b", event("x", "r"))
    assert read(box, "b") == []
    with pytest.raises(BundleError, match="no app name"):
        read(box, "../..")


@pytest.mark.parametrize("loss", [*CUTS, *REFUSALS])
def test_a_box_is_old_or_new_and_refuses_nothing(box: Path, tmp_path: Path, loss: Loss) -> None:
    first, second = Event(1, "x", "r"), Event(2, "y", "r")
    note(box, "a", first)
    for stop in range(1, 8):
        with failing(box, tmp_path / f"{stop}", loss, stop):
            note(box, "a", second)
        assert read(box, "a") in ([first], [first, *[second] * (len(read(box, "a")) - 1)])


def test_a_tail_is_short() -> None:
    assert tail("") == []
    assert tail("\na\nb\n\n") == ["a", "b"]
    lines = tail("\n".join(f"line {number} {'x' * 300}" for number in range(1000)))
    assert len(lines) <= blackbox.TAIL_LINES
    assert lines[-1].startswith("line 999 ")
    assert sum(map(len, lines)) <= blackbox.TAIL_BYTES
