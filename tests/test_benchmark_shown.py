"""What the benchmark of rounds shows: that its fleets, lies and drop-outs are what they are called, and its margins."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.federated.shown.chart import HEIGHT, WIDTH, chart
from benchmarks.federated.shown.course import LIARS, Course, Honest, Terms, centralized, course, honest
from benchmarks.federated.shown.dropping import STAGES, Late, Missing, added_up
from benchmarks.federated.shown.fleet import Fleet, fleet
from benchmarks.federated.shown.lab import lab
from benchmarks.federated.shown.liars import Lying
from benchmarks.federated.shown.lies import LIES
from benchmarks.federated.shown.page import page
from benchmarks.federated.shown.part import Figure, Part, Table, outcome, why_refused
from benchmarks.federated.shown.private import Privately
from benchmarks.federated.shown.real import BENT, NAMES, told
from benchmarks.federated.shown.scenes import CLASSES, EVEN, UNEVEN, scenes, shares, split
from edgekit.errors import RoundError
from edgekit.federated import strategies
from edgekit.federated.checks import reasons
from edgekit.federated.mean import by_examples
from edgekit.federated.rounds.admission import limits
from edgekit.federated.rounds.round import Plan
from edgekit.federated.vectors import layout_of
from edgekit_train import heads
from edgekit_train.update import MOST_COUNTED
from tests.lab import chromium
from tests.lab.demo_store import HOSTILE
from tests.lab.markup import Tags
from tests.lab.sshd import needs_sshd
from tests.runtime.learning import Rows

SIZE, FEW = 8, {"epochs": 1}
HARM = " ".join(HOSTILE)


def made_up(devices: int = 7, each: int = 12) -> Fleet:
    """Three classes that are easily told apart."""
    rng = np.random.default_rng(1)

    def rows(count: int) -> Rows:
        y = rng.integers(3, size=count)
        return Rows((rng.normal(size=(count, SIZE)) + 2 * np.eye(3, SIZE)[y]).astype(np.float32), y)

    return Fleet({f"d-{number:02}": rows(each) for number in range(devices)}, rows(60), heads.initial([SIZE, 3]))


class TestFleet:
    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=60),
        st.integers(1, 9),
        st.sampled_from([1e-3, 0.1, 1.0, EVEN]),
    )
    def test_every_sample_is_on_one_device_and_all_have_as_many(
        self, labels: list[int], devices: int, spread: float
    ) -> None:
        parts = split(np.array(labels), devices, spread, np.random.default_rng(0))
        assert sorted(place for part in parts for place in part) == list(range(len(labels)))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_the_smaller_the_spread_the_fewer_classes_a_device_has(self) -> None:
        labels = np.arange(800) % CLASSES
        kinds = []
        for spread in (EVEN, UNEVEN, 0.1):
            parts = split(labels, 20, spread, np.random.default_rng(0))
            kinds.append(np.mean([(np.bincount(labels[part], minlength=CLASSES) > 2).sum() for part in parts]))
        assert kinds[0] > 8 > kinds[1] > 4 > kinds[2]


class TestLies:
    @pytest.mark.parametrize("name", LIES)
    def test_only_what_is_broken_is_turned_away(self, name: str) -> None:
        devices = made_up()
        updates = Lying(Honest(devices, config=FEW), LIES[name], 3)(devices.start, 0)
        wrong = [each.device for each in updates if reasons(each, devices.start, limits(Plan(), devices.start))]
        assert wrong == (["d-00", "d-01", "d-02"] if name in ("NaN", "wrong shape") else [])

    def test_the_same_devices_lie_in_every_round_and_the_others_never(self) -> None:
        devices = made_up()
        told = Honest(devices, config=FEW)
        lying = Lying(told, LIES["stale"], 2)
        first, second = (lying(devices.start, number) for number in (0, 1))
        assert [one.delta is two.delta for one, two in zip(first, second, strict=True)] == [True] * 2 + [False] * 5
        assert second[2:] == told(devices.start, 1)[2:]


class TestDropping:
    def test_who_is_missing_says_nothing_and_differs_by_round(self) -> None:
        devices = made_up()
        missing = Missing(Honest(devices, config=FEW), 3)
        came = [{each.device for each in missing(devices.start, number)} for number in range(4)]
        assert {len(each) for each in came} == {4}
        assert len(set(map(frozenset, came))) > 1
        always = replace(missing, always=True)
        assert len({frozenset(each.device for each in always(devices.start, number)) for number in range(4)}) == 1

    def test_who_is_late_counts_for_less_in_the_next_round_and_once(self) -> None:
        devices = made_up()
        late = Late(Honest(devices, config=FEW), 3)
        for number in range(4):
            waiting = {each.device: each for each in late.waiting}
            came = late(devices.start, number)
            assert len({each.device for each in came}) == len(came)
            aged = {each.device: each for each in came if each.round != f"{number:032x}"}
            assert aged.keys() == waiting.keys()
            for name, each in aged.items():
                assert each.round == f"{number - 1:032x}"
                was = waiting[name].delta["head.0.bias"]
                assert each.delta["head.0.bias"] == pytest.approx(was * 2**-0.5)

    @pytest.mark.parametrize("stage", STAGES)
    def test_a_secure_sum_is_the_mean_of_those_who_were_added(self, stage: str) -> None:
        devices = made_up()
        updates = Honest(devices, config=FEW)(devices.start, 0)
        told = added_up(updates, {"d-03": stage})
        there = [each for each in updates if each.device != "d-03" or stage in ("confirm", "open")]
        assert told.examples == len(there)
        layout = layout_of(devices.start)
        assert layout.flat(told.delta) == pytest.approx(by_examples(layout, there), abs=1e-7)

    def test_a_secure_sum_of_too_few_is_refused(self) -> None:
        updates = Honest(made_up(), config=FEW)(made_up().start, 0)
        with pytest.raises(RoundError, match="2 devices are left|4 devices are left"):
            added_up(updates, dict.fromkeys(["d-00", "d-01", "d-02"], "add"))


class TestCourse:
    def test_rounds_learn_and_a_refused_one_changes_nothing(self) -> None:
        devices = made_up()
        terms = Terms(strategies.fedavg(), rounds=3)
        told = course(devices, terms, honest(devices, terms))
        assert told.accuracies[0] < 0.5 < 0.8 < told.last
        assert (len(told.accuracies), told.refused) == (4, ())
        terms = Terms(strategies.single_krum(3), rounds=3)
        refused = course(devices, terms, honest(devices, terms))
        assert refused.accuracies == (told.accuracies[0],) * 4
        assert (outcome(refused), why_refused([refused])) == (
            "refused",
            ("krum: needs updates from 9 devices and has 7",),
        )

    def test_devices_whose_training_fails_say_nothing(self) -> None:
        devices = made_up()
        weights = {name: np.full_like(array, 3e38) for name, array in devices.start.items()}
        assert Honest(devices, config=FEW)(weights, 0) == []

    def test_some_rounds_refused_are_counted(self) -> None:
        assert outcome(Course((0.1, 0.1, 0.5), ("krum: needs more",))) == "0.50, 1 of 2 rounds refused"


class TestPage:
    PART = Part(
        "part",
        HARM,
        "told",
        (Figure("f", HARM, "told", {HARM: Course((0.1, 0.55, 0.61)), "short": Course((0.1,))}),),
        (Table(HARM, ("", HARM), ((HARM, HARM),)),),
    )

    def test_nothing_runs_and_nothing_is_asked_for(self) -> None:
        html = page([self.PART])
        tags = Tags.of(html)
        assert not {"script", "iframe", "object", "img"} & tags.kinds
        assert not any(name.startswith("on") for name in tags.attributes)
        assert "style" not in tags.attributes  # the policy would stop it
        assert "http" not in html.replace("http-equiv", "")

    def test_plots_are_within_their_frame_and_have_all_numbers_in_a_table(self) -> None:
        html = page([self.PART])
        start = html.index('<svg class="chart"')
        svg = ET.fromstring(html[start : html.index("</svg>", start) + 6])
        assert len(svg.findall("g/path")) == 2
        drawn = chart(self.PART.figures[0])
        for _, path, values in drawn.lines:
            points = [pair.split() for pair in path.replace("L", "M").split("M")[1:]]
            assert len(points) == len(values)
            assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in points)
        assert [tick.told for tick in drawn.levels] == [f"{level}0%" if level else "0%" for level in range(8)]
        assert all(number in Tags.of(html).texts for number in ("0.100", "0.550", "0.610", "–"))


class TestRuntimes:
    def test_a_board_is_told_of_where_there_is_one(self) -> None:
        assert ", and one on an emulated Raspberry Pi 5, whose bundle is its own. Each" in told(emulated=True)
        assert "3 of them behind SSH servers of their own. Each" in told(emulated=False)

    def test_the_board_is_none_of_those_that_lie(self) -> None:
        """What makes them lie is in an environment that it does not share."""
        assert NAMES[-1] not in BENT


@pytest.mark.slow
class TestMargins:
    """What docs/federated.md says of 20 devices with 40 foggy pictures each."""

    def test_rounds_learn_about_as_much_as_one_place(self) -> None:
        devices, terms = fleet(UNEVEN), Terms(strategies.fedavg())
        told = course(devices, terms, honest(devices, terms))
        assert told.last > told.accuracies[0] + 0.1
        assert told.last > centralized(devices).last - 0.07

    @pytest.mark.parametrize("lie", ["sign flip ×10", "sign flip", "noise", "stale"])
    def test_four_liars_cost_multi_krum_little(self, lie: str) -> None:
        devices, terms = fleet(UNEVEN), Terms(strategies.multi_krum(LIARS))
        told = honest(devices, terms)
        lied = course(devices, terms, Lying(told, LIES[lie], LIARS))
        assert lied.last > course(devices, terms, told).last - 0.07

    @pytest.mark.parametrize(("clip", "least", "most"), [(None, 0.0, 0.3), (2.0, 0.55, 1.0)])
    def test_four_loud_liars_leave_nothing_of_a_mean_unless_deltas_have_a_bound(
        self, clip: float | None, least: float, most: float
    ) -> None:
        devices, terms = fleet(UNEVEN), Terms(strategies.fedavg(), clip)
        lied = course(devices, terms, Lying(honest(devices, terms), LIES["sign flip ×10"], LIARS))
        assert least < lied.last < most
        assert bool(lied.turned_away) == bool(clip)

    @pytest.mark.parametrize(("clip", "least", "most"), [(None, 0.0, 0.3), (2.0, 0.55, 1.0)])
    def test_nor_does_one_that_tells_of_many_examples(self, clip: float | None, least: float, most: float) -> None:
        devices, terms = fleet(UNEVEN), Terms(strategies.fedavg(), clip)
        lied = course(devices, terms, Lying(honest(devices, terms), LIES["sign flip"], 1, MOST_COUNTED))
        assert least < lied.last < most
        assert not lied.turned_away

    def test_twenty_devices_learn_under_noise_though_less_the_more_there_is(self) -> None:
        devices = fleet(EVEN)
        head = Privately(Honest(devices), 1.0, 1e-3, 0.5)
        shipped, plain, some, much = head.plain(1).accuracies[0], head.plain(1), head.noised(8, 1), head.noised(2, 1)
        assert plain.last > some.last - 0.02
        assert some.last > much.last - 0.02 > shipped


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_has_nothing_to_complain_about_and_people_can_read_it(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "page.html").write_text(page([TestPage.PART]), "utf-8")
    with chromium.chromium() as browser, chromium.page(browser, color_scheme=scheme) as (opened, seen):
        opened.goto((tmp_path / "page.html").as_uri())
        assert chromium.violations(opened) == []
        assert seen.complaints == []
        assert seen.requests == [(tmp_path / "page.html").as_uri()]
        assert opened.locator("svg.chart g path").first.evaluate("path => getComputedStyle(path).stroke") != "none"


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_sshd
def test_runtimes_are_set_up_learn_and_can_be_made_to_lie() -> None:
    names = sorted(shares(EVEN))[:5]
    with lab(names) as made:
        for name in names:
            made.keep(name, shares(EVEN)[name], scenes().labels)
        made.bend(names[0], "NaN")
        made.bend(names[4], "wrong shape")
        [told] = made.edgekit("round", "start", "--quorum", "100%")["rounds"]
    states = {each["device"]: each["state"] for each in told["devices"]}
    assert states == dict(zip(names, ["refused", "came", "came", "came", "refused"], strict=True))
    assert told["result"]["accuracy"] > told["result"]["before"] + 0.05
