from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgekit.dashboard import rollouts, rounds
from edgekit.dashboard.app import app
from edgekit.dashboard.fleet_map import HEALTHS, OLDER, QUIET_S, maps
from edgekit.dashboard.guard import check, secret
from edgekit.dashboard.kept import PERIOD_S, Kept
from edgekit.dashboard.look import look, title
from edgekit.errors import ConfigError, EdgekitError
from edgekit.federated.paired import Paired
from edgekit.federated.rounds.gate_store import Gated
from edgekit.federated.rounds.round import Part as RoundPart
from edgekit.federated.rounds.round import Plan as RoundPlan
from edgekit.federated.rounds.round import Result, Round, Subject
from edgekit.fleet import Device
from edgekit.rollout import Part, Plan, Rollout
from edgekit.store import Alert, Seen, Store
from edgekit_server.http import Refused
from tests.lab.demo_store import HOSTILE, Fleet, fill
from tests.lab.markup import Tags

NOW_S = 1.8e9
OLD, NEW = ("sha256:" + digit * 64 for digit in "ab")


def seen(device: str, release: str = NEW, *, last_s: float = NOW_S, **conditions: float) -> Seen:
    return Seen(device, "digits", release, 100.0 if release == OLD else 200.0, last_s, 100, 1, conditions)


def alert(device: str, level: str = "warning", app: str = "digits") -> Alert:
    return Alert(NOW_S, device, app, NEW, "p95_ms", level, 2.0, 1.0, "p95 is 2 ms; 1 ms is allowed")  # type: ignore[arg-type]


def device(name: str, *tags: str) -> Device:
    return Device(name, f"ssh://pi@{name}", "pi", tags)


class TestFleetMap:
    def test_is_by_app_and_site(self) -> None:
        devices = [device("a", "site=wien"), device("b", "lab", "site=berlin"), device("c"), device("never")]
        found = maps(devices, [seen(name) for name in ("a", "b", "c", "stranger")], [], NOW_S)
        assert [(m.app, [(g.site, [c.device for c in g.cells]) for g in m.groups]) for m in found] == [
            ("digits", [("berlin", ["b"]), ("wien", ["a"]), ("no site", ["c"]), ("not in fleet.toml", ["stranger"])]),
            ("", [("no site", ["never"])]),
        ]

    def test_a_letter_stands_for_a_release_the_newest_first(self) -> None:
        [found] = maps([], [seen("a"), seen("b", OLD), seen("c")], [], NOW_S)
        assert [(key.letter, key.release, key.devices) for key in found.keys] == [("A", NEW, 2), ("B", OLD, 1)]
        assert [cell.letter for cell in found.groups[0].cells] == ["A", "B", "A"]

    def test_there_are_more_releases_than_letters(self) -> None:
        [found] = maps([], [seen(f"{i:02}", f"r{i:02}") for i in range(30)], [], NOW_S)
        assert [cell.letter for cell in found.groups[0].cells][-2:] == [OLDER, OLDER]

    @pytest.mark.parametrize(
        ("one", "alerts", "health"),
        [
            (seen("a"), [], "ok"),
            (seen("a", throttled=1.0), [], "warning"),
            (seen("a", throttled=0.0, under_voltage=1.0), [], "warning"),
            (seen("a"), [alert("a")], "warning"),
            (seen("a"), [alert("a", app="")], "warning"),
            (seen("a"), [alert("a"), alert("a", "critical")], "critical"),
            (seen("a"), [alert("b", "critical"), alert("a", "critical", "another app")], "ok"),
            (seen("a", last_s=NOW_S - QUIET_S - 1), [alert("a")], "quiet"),
            (seen("a", last_s=NOW_S - QUIET_S - 1), [alert("a", "critical")], "critical"),
        ],
    )
    def test_health(self, one: Seen, alerts: list[Alert], health: str) -> None:
        [found] = maps([], [one], alerts, NOW_S)
        [cell] = found.groups[0].cells
        assert (cell.health, found.healths) == (health, {health: 1})
        assert cell.told.startswith(f"a: {HEALTHS[health]}; release A bbbbbbbbbbbb")

    def test_a_tab_says_what_is_worst(self) -> None:
        assert title(maps([], [seen("a"), seen("b")], [alert("a", "critical")], NOW_S)) == "1 critical – edgekit"
        assert title(maps([], [seen("a"), seen("b")], [], NOW_S)) == "2 devices – edgekit"
        assert title([]) == "0 devices – edgekit"


class TestRollouts:
    def test_are_a_bar_of_what_became_of_the_devices(self) -> None:
        states = ["waiting", "done", "failed", "done", "withdrawn"]
        parts = tuple(Part(f"d{i}", 1, "digits", NEW, "", state) for i, state in enumerate(states))
        shown = rollouts.shown(Rollout(7, "/srv/plates", "running", 0.0, Plan((5,)), parts))
        assert (shown.project, shown.release) == ("plates", "bbbbbbbbbbbb")
        assert [(each.state, each.devices) for each in shown.pieces] == [
            ("passed", 2), ("failed", 1), ("waiting", 1), ("withdrawn", 1),
        ]  # fmt: skip
        assert [(each.start, each.width) for each in shown.pieces] == [(0, 40), (40, 20), (60, 20), (80, 20)]


class TestRounds:
    def round_(self, result: Result | None = None, reason: str | None = None) -> Round:
        states = ["waiting", "came", "refused", "came", "late"]
        parts = tuple(RoundPart(f"d{i}", state) for i, state in enumerate(states))
        subject = Subject("/srv/plates", "digits", NEW, "head")
        state = "done" if result else "halted" if reason else "running"
        return Round(7, "1" * 32, subject, RoundPlan(), state, 0.0, "", parts, result=result, reason=reason)

    def test_are_a_bar_of_what_became_of_the_devices(self) -> None:
        shown = rounds.shown(self.round_(), None)
        assert (shown.project, shown.model, shown.how) == ("plates", "bbbbbbbbbbbb", "fedavg, head")
        assert (shown.accuracy, shown.told) == ("", "")
        assert [(each.state, each.devices) for each in shown.pieces] == [
            ("learned", 2), ("late", 1), ("refused", 1), ("waiting", 1),
        ]  # fmt: skip

    def test_tell_why_they_halted(self) -> None:
        shown = rounds.shown(self.round_(reason="1 of 5 updates; krum needs 5 updates"), None)
        assert (shown.state, shown.told) == ("halted", "1 of 5 updates; krum needs 5 updates")

    def test_tell_what_came_of_them(self) -> None:
        done = self.round_(Result(3, 150, 0.5, 0.9, 0.925, 200))
        assert (rounds.shown(done, None).accuracy, rounds.shown(done, None).told) == ("90 % → 92.5 %", "")
        shipped = rounds.shown(done, Gated("", Paired(100, 89, 2, 5), {"pi": OLD, "jetson": NEW}))
        assert shipped.accuracy == "91 % → 94 %"
        assert shipped.told == "Built for pi aaaaaaaaaaaa, jetson bbbbbbbbbbbb"
        assert rounds.shown(done, Gated("worse: 5 fewer right", Paired(100, 89, 5, 0))).told == "worse: 5 fewer right"


class TestGuard:
    @pytest.mark.parametrize("host", ["localhost:8321", "127.0.0.1:8321", "[::1]:8321", "192.168.1.7", ""])
    def test_addresses_and_localhost_are_ours(self, host: str) -> None:
        check(host, "", "")

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8321", "localhost.evil.example"])
    def test_no_name_of_somebody_else_is(self, host: str) -> None:
        with pytest.raises(Refused) as told:
            check(host, "", "")
        assert told.value.status == 421

    @pytest.mark.parametrize(
        "kind", ["Bearer t0ken", "bearer t0ken", "Basic " + base64.b64encode(b"me:t0ken").decode()]
    )
    def test_a_token_opens_by_every_name(self, kind: str) -> None:
        check("dashboard.example", kind, "t0ken")

    @pytest.mark.parametrize("told", ["", "Bearer", "Bearer other", "Basic dDBrZW4=", "Basic ö", "Basic /w==", "t0ken"])
    def test_nothing_else_does(self, told: str) -> None:
        assert secret(told) != "t0ken"
        with pytest.raises(Refused) as refused:
            check("127.0.0.1", told, "t0ken")
        assert refused.value.status == 401


class TestKept:
    def test_is_made_once_for_all_who_look(self) -> None:
        now, made = [0.0], []
        kept = Kept(lambda: made.append(1) or f"page {len(made)}", lambda: now[0])  # type: ignore[func-returns-value]
        everybody = [threading.Thread(target=kept.latest) for _ in range(8)]
        for one in everybody:
            one.start()
        for one in everybody:
            one.join()
        assert (made, kept.latest().body) == ([1], b"page 1")
        now[0] = PERIOD_S
        assert kept.latest().body == b"page 2"

    def test_has_another_name_when_it_is_another_page(self) -> None:
        one, same, other = (Kept(lambda text=text: text).latest().tag for text in "aab")  # type: ignore[misc]
        assert one == same != other

    def test_one_that_could_not_be_made_is_tried_again(self) -> None:
        def make() -> str:
            tries.append(1)
            if len(tries) == 1:
                raise EdgekitError("the store cannot be read")
            return "page"

        tries: list[int] = []
        kept = Kept(make)
        with pytest.raises(EdgekitError):
            kept.latest()
        assert kept.latest().body == b"page"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'demo.db'}") as opened:
        fill(opened, Fleet(devices=6, days=0.2, end_s=NOW_S, apps=("digits",)))
        yield opened


def ask(made: Any, path: str = "/", host: str = "127.0.0.1:8321", method: str = "GET", **how: Any) -> Any:
    """What an application answers."""

    async def asked() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url=f"http://{host}") as client:
            return await client.request(method, path, **how)

    return asyncio.run(asked())


class TestApp:
    def test_shows_the_fleet_and_runs_nothing_that_it_is_named(self, store: Store) -> None:
        html = look(store, lambda: [device("berlin-000", "site=berlin")], NOW_S)
        tags = Tags.of(html)
        assert tags.kinds.isdisjoint({"img", "b\n", "iframe"})
        assert not [name for name in tags.attributes if name.startswith("on") or name == "style"]
        assert "No open alerts" not in html
        assert "berlin-000: warning; release A" in html
        assert "halted: more than 10% of a wave failed" in html
        assert "accuracy 91 % → 94 %" in html
        assert "0 of 6 updates; &lt;/script&gt;" in html
        assert html.count("<script") == 2

    def test_answers_that_nothing_is_new(self, store: Store) -> None:
        made = app(store, list)
        first = ask(made)
        assert first.status_code == 200
        again = ask(made, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert first.headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in first.headers["content-security-policy"]

    def test_has_what_the_page_is_drawn_with_and_nothing_else(self, store: Store) -> None:
        made = app(store, list)
        assert "edgekitPlots" in ask(made, "/assets/page.js", "localhost").text
        assert ask(made, "/assets/page.css").headers["content-type"].startswith("text/css")
        assert ask(made, "/assets/%2e%2e%2fapp.py").status_code == 404
        assert ask(made, "/assets/app.py").status_code == 404
        assert ask(made, method="POST").status_code == 405

    def test_tells_who_may_not_look(self, store: Store) -> None:
        assert ask(app(store, list), host="evil.example").status_code == 421
        public, name = app(store, list, "t0ken"), "dashboard.example"
        refused = ask(public, host=name)
        assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
        assert ask(public, "/assets/page.js", name).status_code == 401
        assert ask(public, host=name, auth=("anybody", "t0ken")).status_code == 200

    def test_says_what_is_wrong_and_recovers(self, store: Store) -> None:
        def devices() -> list[Device]:
            if broken:
                raise ConfigError("fleet.toml: no TOML")
            return []

        broken, made = [1], app(store, lambda: devices())
        answer = ask(made)
        assert (answer.status_code, answer.text) == (503, "fleet.toml: no TOML\n")
        broken.clear()
        assert ask(made).status_code == 200

    def test_an_empty_store_has_a_page(self, tmp_path: Path) -> None:
        with Store(f"sqlite:///{tmp_path / 'empty.db'}") as empty:
            html = look(empty, list, NOW_S)
        assert "No open alerts" in html
        assert "No device has reported." in html
        assert "Rounds" not in html
        assert HOSTILE[0] not in html
