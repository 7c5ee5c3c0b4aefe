"""What is recorded reaches the spool, whatever happens to the disk and the process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from edgekit_runtime.histogram import index, percentile
from edgekit_runtime.recorder import Recorder
from edgekit_runtime.spool import Spool
from edgekit_runtime.spool_files import lines, listed
from edgekit_runtime.windows import Window

WINDOW = Window("app", "sha256:00", "s", 0, 1.5, 2.5, {3: 2, 700: 1}, {"invalid_input": 4})


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
            recorder.record(0, latency, 0)
        recorder.failed("invalid_input")
        recorder.flush()
        recorder.failed("engine")
        recorder.close()
        first, second = spool.windows()
        assert (first.app, first.release, first.count, first.errors) == ("app", "sha256:1", 4, {"invalid_input": 1})
        assert (second.count, second.errors, second.session) == (0, {"engine": 1}, first.session)
        assert (first.seq, second.seq) == (0, 1)
        moments = (before, first.start_s, first.end_s, second.start_s, second.end_s, time.time())
        assert all(one <= other + 0.001 for one, other in pairwise(moments))

    def test_nothing_to_report_writes_nothing(self, tmp_path: Path) -> None:
        recorder = Recorder(Spool(tmp_path / "app"), "app", "r")
        recorder.flush()
        recorder.close()
        assert not (tmp_path / "app").exists()

    def test_windows_are_written_while_the_session_lives(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r", window_s=0.02)
        deadline = time.monotonic() + 60
        while len(list(spool.windows())) < 3 and time.monotonic() < deadline:
            recorder.record(0, 1000, 0)
            time.sleep(0.005)
        assert len(list(spool.windows())) >= 3
        recorder.close()
        assert {window.session for window in spool.windows()} == {next(spool.windows()).session}

    def test_closing_twice_writes_once(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        recorder.record(0, 5, 0)
        recorder.close()
        recorder.close()
        assert self.calls(spool) == {"calls": 1}

    @pytest.mark.parametrize("room", [0, 1, 100, -1])
    def test_a_full_disk_loses_nothing_and_doubles_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
    ) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        recorder.record(0, 1000, 0)
        recorder.flush()
        (path,) = tmp_path.iterdir()
        recorder.record(0, 1000, 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", disk_full(os.write, room))
            for _ in range(3):
                recorder.flush()
            recorder.record(0, 1000, 0)
            recorder.failed("engine")
            recorder.flush()
        assert self.calls(spool) == {"calls": 1}
        recorder.close()
        assert self.calls(spool) == {"calls": 3, "engine": 1}
        assert len(path.read_bytes().splitlines()) == 2

    def test_a_folder_that_cannot_be_made_loses_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "reports").write_text("in the way")
        recorder = Recorder(spool := Spool(tmp_path / "reports" / "app"), "app", "r")
        recorder.record(0, 1000, 0)
        recorder.flush()
        (tmp_path / "reports").unlink()
        recorder.close()
        assert self.calls(spool) == {"calls": 1}


class TestWindows:
    """What is in them besides the calls."""

    def test_stages_are_by_themselves_and_the_call_is_without_what_it_waited(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        for _ in range(300):
            recorder.record(1000, 10**6, 0)
        recorder.record(1000, 10**6, 5000, 10**9)
        recorder.waited(10**9)
        recorder.close()
        (window,) = spool.windows()
        sums = {name: sum(buckets.values()) for name, buckets in window.stages.items()}
        assert (window.count, sums) == (301, {"queue": 2, "preprocess": 301, "infer": 301, "postprocess": 301})
        assert percentile(window.buckets, 1) == pytest.approx(10**6 + 6000, rel=0.01)
        assert percentile(window.stages["queue"], 0.5) == pytest.approx(10**9, rel=0.01)
        assert window.stages["infer"] == {index(10**6): 301}

    def test_what_others_count_and_what_the_machine_says(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        recorder.ask = lambda: {"cache_hits": 3}
        recorder.close()
        (window,) = spool.windows()
        assert (window.count, window.counters) == (0, {"cache_hits": 3})
        assert window.conditions["memory_available_mib"] > 0

    def test_windows_are_put_together_while_nobody_fetches_them_but_not_for_a_trial(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Spool, "patience", 3)
        trial = Trial()
        recorder = Recorder(spool := Spool(tmp_path), "app", "r", probation=trial)  # type: ignore[arg-type]
        for _ in range(3):
            assert not list(spool.windows())
            recorder.record(0, 1000, 0)
            recorder.flush(spool.patience)
        (window,) = spool.windows()
        assert (window.count, [each.count for each in trial.windows]) == (3, [1, 1, 1])
        recorder.record(0, 1000, 0)
        recorder.flush(spool.patience)
        recorder.close()
        assert [each.count for each in spool.windows()] == [3, 1]
        assert [each.seq for each in spool.windows()] == [0, 1]

    @pytest.mark.parametrize(("before", "after"), [(0.0, 1.8e9), (1.8e9, 0.0), (4e9, 1.8e9), (1e12, 1.8e9)])
    def test_a_clock_that_is_set_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: float, after: float
    ) -> None:
        monkeypatch.setattr(time, "time", lambda: before)
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        recorder.record(0, 1000, 0)
        monkeypatch.setattr(time, "time", lambda: after)
        recorder.flush()
        monkeypatch.setattr(time, "time", lambda: before)
        recorder.record(0, 1000, 0)
        recorder.close()
        first, second = spool.windows()
        assert 0 <= first.start_s <= first.end_s < first.start_s + 5
        assert 0 <= second.start_s <= second.end_s < second.start_s + 5
        assert first.end_s == pytest.approx(after, abs=5)

    def test_idle_time_is_in_no_window(self, tmp_path: Path) -> None:
        recorder = Recorder(spool := Spool(tmp_path), "app", "r")
        time.sleep(0.05)
        idle = time.time()
        recorder.flush()
        recorder.record(0, 1000, 0)
        recorder.close()
        (window,) = spool.windows()
        assert window.start_s > idle - 0.01


class Trial:
    """A probation that only remembers what it was told."""

    def __init__(self) -> None:
        self.windows: list[Window] = []

    def window(self, window: Window) -> None:
        self.windows.append(window)

    def closed(self) -> None: ...


RECORD = """
import sys, time
from pathlib import Path
from edgekit_runtime.recorder import Recorder
from edgekit_runtime.spool import Spool
recorder = Recorder(Spool(Path(sys.argv[1])), "app", "r", float(sys.argv[2]))
calls = int(sys.argv[3])
for call in range(calls):
    recorder.record(0, 1000 + call, 0)
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
        return [line for file in listed(folder) for line in lines(file.path)]

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
        assert len(self.lines(tmp_path)) == len(found)

    def test_a_process_that_is_killed_leaves_a_spool_that_can_be_read(self, tmp_path: Path) -> None:
        for run in range(1, 6):
            with self.start(tmp_path, 0.0005, 10**9, 0.0001) as process:
                assert process.stdout is not None
                while process.stdout.readline() and len(self.lines(tmp_path)) < 20 * run:
                    continue
                process.send_signal(signal.SIGKILL)
        assert len(list(Spool(tmp_path).windows())) >= len(self.lines(tmp_path)) - 5 >= 95
        spool = Spool(tmp_path)
        spool.append(replace(WINDOW, session="next"))
        assert replace(WINDOW, session="next") in spool.windows()

    def test_where_files_may_not_grow_a_process_goes_on_and_what_is_written_is_whole(self, tmp_path: Path) -> None:
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))"
        process = self.start(tmp_path, 0.001, 2000, 0.0001, first=limit)
        process.communicate(timeout=60)
        assert process.returncode == 0
        (path,) = tmp_path.iterdir()
        assert path.stat().st_size <= 700
        assert len(path.read_text().splitlines()) == len(list(Spool(tmp_path).windows())) > 0


def test_a_session_in_an_emulator_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    recorder = Recorder(spool := Spool(tmp_path), "app", "r")
    recorder.record(0, 5, 0)
    recorder.close()
    [window] = spool.windows()
    assert window.emulated
    assert window.session.startswith("emulated-")
    assert not replace(window, session="s").emulated
