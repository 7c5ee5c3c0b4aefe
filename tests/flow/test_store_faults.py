"""Stores that are crowded, full, locked or down: nothing is lost, all is resumed, and a person reads one line."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from edgekit import transports
from edgekit.errors import EdgekitError
from edgekit.reports import pull
from edgekit.store import Store
from edgekit_runtime.windows import Window
from tests.lab.databases import Cluster, postgresql, postgresql_url, sqlite_url, url

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

NOW = time.time() - 3600
WINDOW = Window("digits", "sha256:" + "a" * 64, "s1", 0, NOW, NOW + 60, {690: 3}, {"busy": 1}, {"infer": {680: 3}})
DEVICES = 500
PROGRAM = """
import sys
from edgekit.store import Store
from tests.flow.test_store_faults import report
with Store(sys.argv[1]) as store:
    print(sum(report(store, n) for n in range(int(sys.argv[2]), 60, 4)))
"""


def report(store: Store, device: int) -> int:
    """Three windows, one of which comes twice."""
    return store.add(f"device-{device}", windows()[:2]) + store.add(f"device-{device}", windows()[1:])


def windows() -> list[Window]:
    return [replace(WINDOW, seq=seq, start_s=NOW + 60 * seq, end_s=NOW + 60 * seq + 60) for seq in range(3)]


def whole(store: Store, devices: int) -> None:
    """Whether each window counted once, of each device and of all."""
    assert {each.count for each in store.summaries()} == {9}
    assert len(store.fleet()) == devices
    for seconds in (300, 3600, 86400):
        told = store.slices(NOW - 86400, NOW + 86400, seconds=seconds, together=True, stages=("call", "infer"))
        assert sum(each.buckets.get(690, 0) for each in told) == 9 * devices
        assert sum(each.buckets.get(680, 0) for each in told) == 9 * devices
        assert sum(each.errors.get("busy", 0) for each in told) == 3 * devices


@pytest.mark.slow
class TestACrowd:
    def test_five_hundred_devices_at_once(self, url: str) -> None:
        started = time.monotonic()
        with Store(url) as store, ThreadPoolExecutor(DEVICES) as pool:
            assert set(pool.map(lambda device: store.add(f"device-{device}", windows()), range(DEVICES))) == {3}
            print(f"{DEVICES / (time.monotonic() - started):.0f} reports a second")
            whole(store, DEVICES)

    def test_one_device_from_many_ways(self, url: str) -> None:
        with Store(url) as store, ThreadPoolExecutor(50) as pool:
            assert sum(pool.map(lambda _: report(store, 1), range(50))) == 3
            whole(store, 1)

    def test_processes(self, url: str) -> None:
        command = [sys.executable, "-c", PROGRAM, url]
        crowd = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(4)]
        assert [int(each.communicate(timeout=100)[0]) for each in crowd] == [45] * 4
        with Store(url) as store:
            whole(store, 60)


@pytest.mark.slow
class TestPostgreSQL:
    @pytest.mark.parametrize("how", ["fast", "immediate"])
    def test_down_and_back(self, postgresql: Cluster, how: str) -> None:
        with Store(postgresql.create()) as store:
            report(store, 1)
            postgresql.stop(how)
            for _ in range(2):
                with pytest.raises(EdgekitError, match="the report cannot be stored: ") as caught:
                    report(store, 2)
                assert "\n" not in str(caught.value)
                assert caught.value.hint == "nothing is lost: run it again"
            with pytest.raises(EdgekitError, match="the store cannot be read: "):
                store.have("device-1")
            postgresql.start()
            assert (report(store, 1), report(store, 2)) == (0, 3)
            whole(store, 2)

    def test_down_in_the_midst_of_a_crowd(self, postgresql: Cluster) -> None:
        def insistent(device: int) -> int:
            for _ in range(600):
                try:
                    return report(store, device)
                except EdgekitError:
                    time.sleep(0.1)
            raise AssertionError("never")

        with Store(postgresql.create()) as store, ThreadPoolExecutor(20) as pool:
            done = pool.map(insistent, range(100))
            postgresql.stop("immediate")
            postgresql.start()
            list(done)
            whole(store, 100)

    def test_not_there_from_the_beginning(self) -> None:
        started = time.monotonic()
        with pytest.raises(EdgekitError, match="the store cannot be opened: .*refused") as caught:
            Store("postgresql://postgres@127.0.0.1:1/x")
        assert "\n" not in str(caught.value)
        assert time.monotonic() - started < 5


class TestAFullDisk:
    def test_what_was_kept_stays_and_the_rest_comes_later(self, sqlite_url: str) -> None:
        long = [replace(WINDOW, seq=seq, buckets=dict.fromkeys(range(seq, seq + 500), seq)) for seq in range(200)]
        with Store(sqlite_url) as store:
            report(store, 1)
            event.listen(store._engine, "connect", _full)
            store._engine.dispose()
            with pytest.raises(
                EdgekitError, match="the report cannot be stored: .* database or disk is full"
            ) as caught:
                store.add("device-2", long)
            assert caught.value.hint == "nothing is lost: run it again"
            whole(store, 1)
            event.remove(store._engine, "connect", _full)
            store._engine.dispose()
            assert (store.add("device-2", long), report(store, 1)) == (200, 0)


def _full(connection: Any, record: Any) -> None:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")


class TestALocalLinkThatIsCut:
    def test_each_part_is_kept_before_the_next_is_asked_for(self, tmp_path: Path, sqlite_url: str) -> None:
        home = tmp_path / "home"
        (home / "env/bin").mkdir(parents=True)
        script = home / "env/bin/python"
        script.write_text(f"#!{sys.executable}\n{DEVICE}")
        script.chmod(0o755)
        with transports.connect(f"local:{home}") as link, Store(sqlite_url) as store:
            had = []
            for _ in range(3):
                with pytest.raises(EdgekitError):
                    pull(link, "desk", store)
                had.append(store.have("desk")["s1"])
            (home / "whole").touch()
            assert had == [1, 3, 5]
            assert pull(link, "desk", store) == 4
            assert (store.have("desk"), store.summaries()[0].count) == ({"s1": 9}, 30)


DEVICE = f'''
import json, os, sys
sys.path[:0] = {[str(Path(__file__).parents[2] / "runtime")]!r}
have = json.loads(sys.stdin.readline())["have"].get("s1", -1)
home = os.environ["EDGEKIT_HOME"]
calls = os.path.join(home, "calls")
open(calls, "a").write("x")
if os.path.getsize(calls) % 2 == 0 and not os.path.exists(os.path.join(home, "whole")):
    print('{{"windows": [')
    sys.exit(1)
window = {{"schema_version": 2, "app": "digits", "release": "{WINDOW.release}", "session": "s1",
          "start_s": 1, "end_s": 2, "buckets": {{"690": 3}}, "errors": {{}}}}
part = [dict(window, seq=seq) for seq in range(have + 1, min(have + 3, 10))]
print(json.dumps({{"now_s": 5.0, "windows": part, "more": have + 3 < 10}}))
'''
