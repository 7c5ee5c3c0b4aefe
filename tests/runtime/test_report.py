"""Latencies: percentiles that can be trusted, and a spool that survives what happens to disks and processes."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime import report
from edgekit_runtime.report import SPOOL_BYTES, Recorder, Spool, Window, dump, merge, parse, percentile
from tests.runtime.values import GARBAGE, WINDOWS, almost

WINDOW = Window("app", "sha256:00", "s", 7, 1.5, 2.5, {3: 2, 700: 1}, {"invalid_input": 4})
SHARES = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]) | st.floats(0, 1)
LATENCIES = st.lists(st.floats(0, 14).map(lambda power: round(10**power)), min_size=1, max_size=200)
"""From a nanosecond to more than a day, any order of magnitude as likely as another."""


class Memory(Spool):
    """A spool that keeps windows in memory."""

    def __init__(self) -> None:
        self.kept: list[Window] = []

    def append(self, window: Window) -> None:
        self.kept.append(window)


def histogram(latencies: Sequence[int]) -> dict[int, int]:
    recorder = Recorder(spool := Memory(), "app", "r")
    for latency in latencies:
        recorder.record(latency)
    recorder.close()
    return merge(spool.kept)


class TestFormat:
    @given(WINDOWS)
    def test_parse_gives_what_was_dumped(self, window: Window) -> None:
        line = dump(window)
        assert parse(line) == window
        assert line.isascii()
        assert "\n" not in line

    @settings(deadline=None)
    @given(almost(json.loads(dump(WINDOW))))
    def test_almost_a_window_is_read_exactly_or_refused(self, line: str) -> None:
        try:
            found = parse(line)
        except ValueError:
            return
        assert parse(dump(found)) == found
        assert not percentile(found.buckets, 0.5) <= 0

    @pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:12]))
    def test_garbage_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            parse(data.decode(errors="replace"))

    @pytest.mark.parametrize(
        "change",
        [
            {"buckets": {"10000": 1}},
            {"buckets": {"-1": 1}},
            {"buckets": {"1e3": 1}},
            {"buckets": {"7": -1}},
            {"buckets": {"7": 1.0}},
            {"buckets": {"7": 2**63}},
            {"errors": {"": 1}},
            {"errors": {"a\nb": 1}},
            {"errors": {"x" * 200: 1}},
            {"start_s": 10**400},
            {"start_s": True},
            {"end_s": "now"},
            {"seq": -1},
            {"seq": 2**63},
            {"app": ""},
            {"app": "\ud800"},
            {"release": "a\0b"},
            {"session": 5},
            {"schema_version": 2},
        ],
        ids=str,
    )
    def test_a_device_s_odd_window_never_reaches_the_store(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            parse(json.dumps({**json.loads(dump(WINDOW)), **change}))


class TestHistogram:
    @settings(deadline=None)
    @given(LATENCIES, SHARES)
    def test_percentiles_are_within_one_percent_of_the_exact_ones(self, latencies: list[int], share: float) -> None:
        exact = sorted(max(latency, 1) for latency in latencies)[int(share * (len(latencies) - 1))]
        assert percentile(histogram(latencies), share) == pytest.approx(exact, rel=0.01 + 1e-9)

    @given(LATENCIES)
    def test_every_call_is_counted(self, latencies: list[int]) -> None:
        assert sum(histogram(latencies).values()) == len(latencies)

    def test_nothing_has_no_percentile(self) -> None:
        assert math.isnan(percentile({}, 0.5))

    @given(st.lists(WINDOWS, max_size=5), st.randoms())
    def test_merging_is_associative_and_commutative(self, windows: list[Window], random: Any) -> None:
        cut = random.randint(0, len(windows))
        parts = [replace(WINDOW, buckets=merge(part)) for part in (windows[:cut], windows[cut:])]
        assert merge(parts) == merge(windows)
        assert merge(random.sample(windows, len(windows))) == merge(windows)

    @settings(deadline=None)
    @given(LATENCIES, LATENCIES, SHARES)
    def test_two_windows_merged_are_one_window_of_both(self, one: list[int], other: list[int], share: float) -> None:
        windows = [replace(WINDOW, buckets=histogram(part)) for part in (one, other)]
        assert percentile(merge(windows), share) == percentile(histogram(one + other), share)


def full(seq: int = 0, session: str = "s", buckets: int = 300) -> Window:
    return replace(WINDOW, seq=seq, session=session, buckets=dict.fromkeys(range(1000, 1000 + buckets), 1))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


class TestSpool:
    def test_windows_come_back_in_the_order_of_their_files(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "reports" / "app")
        written = [full(seq, f"session{seq // 3}", 5) for seq in range(9)]
        for window in written:
            spool.append(window)
        assert list(spool.windows()) == written

    def test_an_empty_spool_has_no_windows(self, tmp_path: Path) -> None:
        assert list(Spool(tmp_path / "none").windows()) == []

    @pytest.mark.parametrize("sessions", [1, 300])
    def test_it_never_grows_over_its_limit_and_keeps_the_newest(self, tmp_path: Path, sessions: int) -> None:
        spool, sizes = Spool(tmp_path), []
        for seq in range(300):
            spool.append(full(seq, f"session{seq % sessions:04d}", 900))
            sizes.append(size(tmp_path))
        assert max(sizes) <= SPOOL_BYTES
        assert sizes[-1] > SPOOL_BYTES * 0.8
        kept = [window.seq for window in spool.windows()]
        assert kept == list(range(kept[0], 300))

    def test_a_torn_last_line_is_skipped_and_the_next_window_starts_a_line(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.append(full(0))
        (path,) = tmp_path.iterdir()
        with path.open("ab") as file:
            file.write(dump(full(1)).encode()[:200])
        assert list(spool.windows()) == [full(0)]
        spool.append(full(2))
        assert list(spool.windows()) == [full(0), full(2)]
        assert list(tmp_path.iterdir()) == [path]

    def test_damaged_lines_do_not_hide_whole_ones(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.append(full(0))
        (path,) = tmp_path.iterdir()
        path.write_bytes(b"\0" * 64 + b"\n\xff\xfe\n[" + b"[" * 5000 + b"\n" + path.read_bytes() + b"{}\n")
        assert list(spool.windows()) == [full(0)]

    def test_files_that_cannot_be_read_are_skipped(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.append(full(0))
        (tmp_path / "folder.ndjson").mkdir()
        (tmp_path / "gone.ndjson").symlink_to(tmp_path / "nowhere")
        (tmp_path / "other.txt").write_text(dump(full(1)))
        spool.append(full(2))
        assert list(spool.windows()) == [full(0), full(2)]

    def test_a_file_that_another_process_removes_meanwhile_is_no_trouble(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spool, other = Spool(tmp_path), Spool(tmp_path)
        for seq in range(3):
            other.append(full(seq, f"other{seq}"))
        glob = Path.glob

        def glob_then_lose(self: Path, pattern: str) -> Any:
            found = list(glob(self, pattern))
            (tmp_path / "other1-000000001.ndjson").unlink(missing_ok=True)
            return found

        monkeypatch.setattr(Path, "glob", glob_then_lose)
        spool.append(full(9))
        assert {window.seq for window in spool.windows()} == {0, 2, 9}


def disk_full(write: Callable[[int, bytes], int], room: int) -> Callable[[int, bytes], int]:
    """What a disk with so many bytes left does: it takes the first of them, then nothing. (-1: one too few.)"""
    left: list[int] = []

    def limited(handle: int, data: bytes) -> int:
        if not left:
            left.append(room if room >= 0 else len(data) + room)
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(len(data), left[0])
        left[0] -= taken
        return write(handle, data[:taken])

    return limited


class TestRecorder:
    def calls(self, spool: Spool) -> Counter[str]:
        counted: Counter[str] = Counter()
        for window in spool.windows():
            counted.update(window.errors)
            counted["calls"] += window.count
        return counted

    def test_a_window_holds_calls_errors_and_when_it_was(self, tmp_path: Path) -> None:
        before, recorder = time.time(), Recorder(spool := Spool(tmp_path), "app", "sha256:1")
        for latency in (0, 1, 10**6, 10**6):
            recorder.record(latency)
        recorder.failed("invalid_input")
        recorder.flush()
        recorder.failed("engine")
        recorder.close()
        first, second = spool.windows()
        assert (first.app, first.release, first.count, first.errors) == ("app", "sha256:1", 4, {"invalid_input": 1})
        assert (second.count, second.errors, second.session) == (0, {"engine": 1}, first.session)
        assert (first.seq, second.seq) == (0, 1)
        assert before <= first.start_s <= first.end_s <= second.start_s <= second.end_s <= time.time()

    def test_nothing_to_report_writes_nothing(self, tmp_path: Path) -> None:
        recorder = Recorder(Spool(tmp_path / "app"), "app", "r")
        recorder.flush()
        recorder.close()
        assert not (tmp_path / "app").exists()

    def test_windows_are_written_while_the_session_lives(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r", window_s=0.02)
        deadline = time.monotonic() + 10
        while len(list(spool.windows())) < 3 and time.monotonic() < deadline:
            recorder.record(1000)
            time.sleep(0.005)
        assert len(list(spool.windows())) >= 3
        recorder.close()
        assert {window.session for window in spool.windows()} == {next(spool.windows()).session}

    def test_closing_twice_writes_once(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        recorder.record(5)
        recorder.close()
        recorder.close()
        assert self.calls(spool) == {"calls": 1}

    @pytest.mark.parametrize("room", [0, 1, 100, -1])
    def test_a_full_disk_loses_nothing_and_doubles_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
    ) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        recorder.record(1000)
        recorder.flush()
        (path,) = tmp_path.iterdir()
        recorder.record(1000)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", disk_full(os.write, room))
            for _ in range(3):
                recorder.flush()
            recorder.record(1000)
            recorder.failed("engine")
            recorder.flush()
        assert self.calls(spool) == {"calls": 1}
        recorder.close()
        assert self.calls(spool) == {"calls": 3, "engine": 1}
        assert len(path.read_bytes().splitlines()) == 2

    def test_a_folder_that_cannot_be_made_loses_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "reports").write_text("in the way")
        recorder = Recorder(spool := Spool(tmp_path / "reports" / "app"), "app", "r")
        recorder.record(1000)
        recorder.flush()
        (tmp_path / "reports").unlink()
        recorder.close()
        assert self.calls(spool) == {"calls": 1}


RECORD = """
import sys, time
from pathlib import Path
from edgekit_runtime.report import Recorder, Spool
recorder = Recorder(Spool(Path(sys.argv[1])), "app", "r", float(sys.argv[2]))
calls = int(sys.argv[3])
for call in range(calls):
    recorder.record(1000 + call)
    if call % 1000 == 0:
        print(call, flush=True)
    if len(sys.argv) > 4:
        time.sleep(float(sys.argv[4]))
"""


SLOW_IN_THREADS = """
import os, threading, time
write = os.write
def slowly(handle, data):
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.5)
    return write(handle, data)
os.write = slowly
"""


class TestProcesses:
    """Real processes that record, and what they leave."""

    def start(self, folder: Path, *arguments: object, first: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", first + RECORD, str(folder), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def lines(self, folder: Path) -> list[bytes]:
        return [line for path in folder.iterdir() for line in path.read_bytes().splitlines()]

    def test_a_process_that_ends_leaves_all_its_calls(self, tmp_path: Path) -> None:
        running = [self.start(tmp_path, window, 5000) for window in (60, 0.001, 0.0001, 0.00001)]
        for process in running:
            process.communicate(timeout=60)
            assert process.returncode == 0
        assert sum(window.count for window in Spool(tmp_path).windows()) == 4 * 5000

    def test_a_process_that_ends_while_a_window_is_being_written_waits_for_it(self, tmp_path: Path) -> None:
        process = self.start(tmp_path, 0.05, 300, 0.001, first=SLOW_IN_THREADS)
        process.communicate(timeout=60)
        assert sum(window.count for window in Spool(tmp_path).windows()) == 300

    def test_two_processes_at_once_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        running = [self.start(tmp_path, 0.001, 400, 0.001) for _ in range(2)]
        for process in running:
            process.communicate(timeout=60)
        found = list(Spool(tmp_path).windows())
        assert sum(window.count for window in found) == 2 * 400
        assert len({window.session for window in found}) == 2
        assert len({(window.session, window.seq) for window in found}) == len(found) > 50
        lines = sum(len(path.read_text().splitlines()) for path in tmp_path.iterdir())
        assert lines == len(found)

    def test_a_process_that_is_killed_leaves_a_spool_that_can_be_read(self, tmp_path: Path) -> None:
        for run in range(1, 6):
            with self.start(tmp_path, 0.0005, 10**9, 0.0001) as process:
                assert process.stdout is not None
                while process.stdout.readline() and len(self.lines(tmp_path)) < 20 * run:
                    continue
                process.send_signal(signal.SIGKILL)
        assert len(list(Spool(tmp_path).windows())) >= len(self.lines(tmp_path)) - 5 >= 95
        spool = Spool(tmp_path)
        spool.append(full(0, "next"))
        assert full(0, "next") in spool.windows()

    def test_where_files_may_not_grow_a_process_goes_on_and_what_is_written_is_whole(self, tmp_path: Path) -> None:
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))"
        process = self.start(tmp_path, 0.001, 2000, 0.0001, first=limit)
        process.communicate(timeout=60)
        assert process.returncode == 0
        (path,) = tmp_path.iterdir()
        assert path.stat().st_size <= 700
        assert len(path.read_text().splitlines()) == len(list(Spool(tmp_path).windows())) > 0


def test_the_buckets_are_those_of_the_paper() -> None:
    """DDSketch: index i holds (γ^(i-1), γ^i]."""
    for latency in (1, 2, 1000, 10**6, 10**9):
        (index,) = histogram([latency])
        assert report.GAMMA ** (index - 1) * (1 - 1e-9) < latency <= report.GAMMA**index * (1 + 1e-9)


def test_a_session_in_an_emulator_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    recorder = Recorder(spool := Spool(tmp_path), "app", "r")
    recorder.record(5)
    recorder.close()
    [window] = spool.windows()
    assert window.emulated
    assert window.session.startswith("emulated-")
    assert not replace(window, session="s").emulated
