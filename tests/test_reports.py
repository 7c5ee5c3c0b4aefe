"""Reports from devices that lie: a runtime that is a script, which prints what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import reports, transports
from edgekit.errors import CommandError, DeviceError, EdgekitError
from edgekit.store import Store
from edgekit.transports import Transport
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window
from tests.lab.project import environment

RELEASE = "sha256:" + "a" * 64
GOOD = Window("digits", RELEASE, "0f" * 16, 0, 1000.0, 1060.0, {690: 3}, {"invalid_input": 1})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def link(home: Path) -> Iterator[Transport]:
    with transports.connect(f"local:{home}") as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def says(home: Path, text: str, status: int = 0) -> None:
    (home / "env/bin").mkdir(parents=True, exist_ok=True)
    (home / "answer").write_text(text)
    script = home / "env/bin/python"
    script.write_text(f'#!/bin/sh\ncat "$EDGEKIT_HOME/answer"; exit {status}\n')
    script.chmod(0o755)


def reports_of(*windows: Any) -> str:
    return json.dumps({"schema_version": 1, "windows": list(windows)})


def document(**changes: Any) -> dict[str, Any]:
    return {"schema_version": 1, **asdict(GOOD), **changes}


HUGE = 10**400
LIES: list[Any] = [
    None,
    1,
    "window",
    [],
    {},
    document(app="<script>alert(1)</script>"),
    document(app="../../etc"),
    document(app="x" * 65),
    document(release="latest"),
    document(release="<b>"),
    document(session="<img src=x onerror=alert(1)>"),
    document(session=""),
    document(session="a\x1b[2J"),
    document(errors={"<script>": 1}),
    document(errors={f"code{i}": 1 for i in range(101)}),
    document(errors={"engine": -1}),
    document(errors={"engine": HUGE}),
    document(seq=-1),
    document(seq=1 << 31),
    document(seq=HUGE),
    document(seq=1.5),
    document(seq=True),
    document(start_s=-1.0),
    document(start_s=1e300),
    document(end_s="now"),
    document(end_s=HUGE),
    document(buckets={"690": -3}),
    document(buckets={"690": HUGE}),
    document(buckets={"690": 1.5}),
    document(buckets={"999999999": 1}),
    document(buckets={"-1": 1}),
    document(buckets={"9000": 1}),
    document(buckets={"x": 1}),
    document(buckets=[1]),
    document(device="gate"),
    document(schema_version=3),
]


class TestLies:
    def test_what_no_runtime_wrote_is_passed_over_and_the_rest_kept(
        self, home: Path, link: Transport, store: Store
    ) -> None:
        says(home, reports_of(*LIES, document(), *LIES, document(seq=1)))
        assert reports.pull(link, "desk", store) == 2
        [summary] = store.summaries()
        assert (summary.device, summary.app, summary.count, summary.errors) == (
            "desk",
            "digits",
            6,
            {"invalid_input": 2},
        )

    @pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
    def test_each_alone_leaves_nothing(self, home: Path, link: Transport, store: Store, lie: Any) -> None:
        says(home, reports_of(lie))
        assert reports.pull(link, "desk", store) == 0
        assert store.summaries() == []

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_numbers_that_json_does_not_have(self, home: Path, link: Transport, store: Store, number: str) -> None:
        says(home, reports_of(document()).replace("1000.0", number))
        with pytest.raises(CommandError):
            reports.pull(link, "desk", store)
        assert store.summaries() == []

    def test_the_same_window_twice_counts_once(self, home: Path, link: Transport, store: Store) -> None:
        says(home, reports_of(document(), document()))
        assert reports.pull(link, "desk", store) == 1

    def test_a_window_of_another_device_counts_for_the_one_that_brought_it(
        self, home: Path, link: Transport, store: Store
    ) -> None:
        store.add("gate", [GOOD])
        says(home, reports_of(document(buckets={"690": 1000})))
        reports.pull(link, "desk", store)
        assert {each.device: each.count for each in store.summaries()} == {"gate": 3, "desk": 1000}

    @pytest.mark.parametrize("windows", ["null", "{}", "5", '"x"'])
    def test_an_answer_without_a_list(self, home: Path, link: Transport, store: Store, windows: str) -> None:
        says(home, f'{{"schema_version": 1, "windows": {windows}}}')
        with pytest.raises(DeviceError, match="no windows"):
            reports.pull(link, "desk", store)

    def test_an_answer_that_is_cut(self, home: Path, link: Transport, store: Store) -> None:
        whole = reports_of(*(document(seq=seq) for seq in range(20)))
        for length in range(0, len(whole), 177):
            says(home, whole[:length])
            with pytest.raises(CommandError):
                reports.pull(link, "desk", store)
        assert store.summaries() == []

    def test_one_that_never_comes_to_an_end(
        self, home: Path, link: Transport, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reports, "MOST_PARTS", 5)
        says(home, json.dumps({"windows": [document(seq=12345)], "more": True}))
        script = home / "env/bin/python"
        script.write_text('#!/bin/sh\ncd "$EDGEKIT_HOME"; n=$(wc -l <n); echo >>n; sed "s/12345/$n/" answer\n')
        (home / "n").touch()
        assert reports.pull(link, "desk", store) == 5
        assert reports.pull(link, "desk", store) == 5
        assert len((home / "n").read_text()) == 10

    @pytest.mark.parametrize("more", ["true", 1, None, []])
    def test_one_that_has_no_more_than_it_says(self, home: Path, link: Transport, store: Store, more: object) -> None:
        says(home, json.dumps({"windows": [document()], "more": more}))
        assert reports.pull(link, "desk", store) == 1

    def test_one_that_says_the_same_for_ever(self, home: Path, link: Transport, store: Store) -> None:
        says(home, json.dumps({"windows": [document()], "more": True}))
        assert [reports.pull(link, "desk", store) for _ in range(2)] == [1, 0]

    @pytest.mark.parametrize("now", ["now", None, True, -1, 1e300, []])
    def test_a_clock_that_is_none(self, now: object) -> None:
        assert reports.clock({"now_s": now}).device_now_s is None

    def test_ten_megabytes(self, home: Path, link: Transport, store: Store) -> None:
        says(home, reports_of(*(document(session="x" * 10**6) for _ in range(10)), document()))
        assert reports.pull(link, "desk", store) == 1

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.dictionaries(
            st.sampled_from(list(document())),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers().map(str), inner),
                max_leaves=5,
            ),
            max_size=3,
        )
    )
    def test_whatever_is_kept_can_be_summed_up(self, store: Store, changes: dict[str, Any]) -> None:
        store.add("desk", reports._windows([document(**changes)]))
        for summary in store.summaries():
            json.dumps({**asdict(summary)}, allow_nan=False)


class TestTruth:
    @pytest.mark.slow
    def test_what_the_spool_of_a_real_runtime_holds(
        self, home: Path, link: Transport, store: Store, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        (home / "env").symlink_to(environment(tmp_path_factory.getbasetemp()))
        for seq in range(3):
            Spool(home / "reports/digits").append(replace(GOOD, seq=seq))
        assert [reports.pull(link, "desk", store) for _ in range(2)] == [3, 0]
        Spool(home / "reports/digits").append(replace(GOOD, seq=3))
        assert reports.pull(link, "desk", store) == 1
        assert store.summaries()[0].count == 12

    def test_a_line_that_a_power_cut_halved(
        self, home: Path, link: Transport, store: Store, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        (home / "env").symlink_to(environment(tmp_path_factory.getbasetemp()))
        Spool(home / "reports/digits").append(GOOD)
        [file] = (home / "reports/digits").iterdir()
        file.write_bytes(file.read_bytes() * 2 + file.read_bytes()[:40])
        assert reports.pull(link, "desk", store) == 1

    def test_a_store_that_fails_leaves_all_on_the_device(self, home: Path, link: Transport, tmp_path: Path) -> None:
        says(home, reports_of(document()))
        with Store(f"sqlite:///{tmp_path / 'full.db'}") as broken:
            (tmp_path / "full.db").write_bytes(b"no database any more" * 400)
            with pytest.raises(EdgekitError, match="the store cannot be read"):
                reports.pull(link, "desk", broken)
        with Store(f"sqlite:///{tmp_path / 'new.db'}") as fresh:
            assert reports.pull(link, "desk", fresh) == 1
