"""The pages in a real browser: what they ask for, what goes wrong in them, and whether everybody can use them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.page import render
from edgekit.page.gather import gather
from edgekit.store import Store
from edgekit_runtime.windows import Window
from tests.lab.chromium import chromium, page, violations
from tests.lab.demo_store import Fleet, alerts, digest, fill

pytestmark = pytest.mark.slow
DEVICES = ("berlin-000", "berlin-003", "wien-002")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(devices=12, days=1.5, end_s=time.time() - 60)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> str:
    """A store with a fleet in it."""
    found = f"sqlite:///{tmp_path_factory.mktemp('store') / 'edgekit.db'}"
    with Store(found) as store:
        fill(store, fleet)
    return found


@pytest.fixture(scope="module")
def report(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report's file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    with Store(url) as store:
        path.write_text(render.report(gather(store, None, time.time()), "Latency", time.time()), "utf-8")
    return path.as_uri()


@contextmanager
def dashboard(folder: Path, url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command, where it listens, and its process, which is ended."""
    tables = (f'[devices.{n}]\nuri = "ssh://pi@{n}"\ntarget = "pi"\ntags = ["site={n[:4]}"]\n' for n in DEVICES)
    (folder / "fleet.toml").write_text("".join(tables))
    words = [sys.executable, "-m", "edgekit", "dashboard", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "EDGEKIT_STORE": url}
    with subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        line = process.stderr.readline()
        try:
            yield re.findall(r"http://\S+?(?=;)", line)[0], process
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def live(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dashboard(tmp_path_factory.mktemp("project"), url) as (address, _):
        yield f"{address}/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
class TestReport:
    def test_asks_for_nothing_and_nothing_goes_wrong(self, browser: Any, report: str, scheme: str) -> None:
        with page(browser, color_scheme=scheme) as (opened, seen):
            opened.goto(report)
            opened.wait_for_timeout(300)
            assert seen.requests == [report]
            assert seen.complaints == []
            assert opened.evaluate("window.broken") is None
            assert opened.locator(".canvas canvas").count() == opened.locator(".canvas").count() > 8

    def test_no_rule_of_accessibility_is_broken(self, browser: Any, report: str, scheme: str) -> None:
        with page(browser, color_scheme=scheme) as (opened, _):
            opened.goto(report)
            opened.evaluate("document.querySelector('details').open = true")
            opened.locator("[data-table] table").wait_for()
            assert violations(opened) == []


class TestReportInUse:
    def test_by_keys_alone(self, browser: Any, report: str) -> None:
        with page(browser) as (opened, _):
            opened.goto(report)
            walk: list[str] = []
            for _ in range(12):
                opened.keyboard.press("Tab")
                walk.append(
                    opened.evaluate("(e => e.className || e.name || e.href || e.tagName)(document.activeElement)")
                )
            assert walk[0] == "skip"
            assert "variant" in walk
            assert "SUMMARY" in walk
            opened.locator("summary").first.focus()
            opened.keyboard.press("Enter")
            rows = opened.locator("#app0-releases-table tbody tr")
            rows.first.wait_for()
            assert rows.count() > 40

    def test_the_percentile_that_is_chosen_is_drawn_and_tabled(self, browser: Any, report: str) -> None:
        with page(browser) as (opened, _):
            opened.goto(report)
            opened.locator("#app0-releases-table summary").click()
            cells = "#app0-releases-table tbody tr:first-child td"
            before = opened.locator(cells).all_inner_texts()
            opened.get_by_role("radio", name="p95").focus()
            opened.keyboard.press("ArrowRight")
            assert opened.locator(".variant").first.inner_text() == "p99"
            assert opened.locator(cells).all_inner_texts() != before

    def test_all_plots_have_one_time_axis(self, browser: Any, report: str) -> None:
        with page(browser) as (opened, _):
            opened.goto(report)
            opened.wait_for_timeout(300)
            edges = opened.evaluate(
                "[...document.querySelectorAll('.u-over')].map(e => { const r = e.getBoundingClientRect();"
                " return [r.left, r.right]; })"
            )
            assert len({tuple(each) for each in edges}) == 1

    def test_printed_it_is_light(self, browser: Any, report: str) -> None:
        with page(browser, color_scheme="dark") as (opened, _):
            opened.goto(report)
            opened.evaluate("dispatchEvent(new Event('beforeprint'))")
            ink = "getComputedStyle(document.documentElement).getPropertyValue('--card')"
            assert opened.evaluate(ink).strip() == "#ffffff"
            opened.evaluate("dispatchEvent(new Event('afterprint'))")
            assert opened.evaluate(ink).strip() != "#ffffff"
            assert opened.pdf().startswith(b"%PDF")

    @pytest.mark.parametrize("width", [320, 1920])
    def test_it_fits_whatever_the_width(self, browser: Any, report: str, width: int) -> None:
        with page(browser, viewport={"width": width, "height": 800}) as (opened, _):
            opened.goto(report)
            assert opened.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
class TestDashboard:
    def test_asks_only_its_own_server(self, browser: Any, live: str, scheme: str) -> None:
        with page(browser, color_scheme=scheme) as (opened, seen):
            opened.goto(live)
            opened.get_by_text("Up to date at").wait_for()
            assert {each.partition("?")[0] for each in seen.requests} <= {
                live,
                f"{live}assets/page.css",
                f"{live}assets/page.js",
            }
            assert seen.complaints == []
            assert opened.evaluate("window.broken") is None

    def test_no_rule_of_accessibility_is_broken(self, browser: Any, live: str, scheme: str) -> None:
        with page(browser, color_scheme=scheme) as (opened, _):
            opened.goto(live)
            opened.get_by_text("Up to date at").wait_for()
            assert violations(opened) == []


class TestDashboardInUse:
    def test_the_map_by_keys_alone(self, browser: Any, live: str) -> None:
        with page(browser) as (opened, _):
            opened.goto(live)
            opened.locator(".cell[tabindex='0']").first.focus()
            name = "document.activeElement.getAttribute('aria-label')"
            first = opened.evaluate(name)
            assert opened.locator("#panel").inner_text() == first
            opened.keyboard.press("ArrowRight")
            second = opened.evaluate(name)
            assert second != first
            opened.keyboard.press("Home")
            assert opened.evaluate(name) == first
            opened.keyboard.press("End")
            opened.keyboard.press("ArrowUp")
            assert opened.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
            assert opened.locator("[role=listbox]").first.locator("[tabindex='0']").count() == 1

    def test_a_new_alert_comes_by_itself_and_is_said_and_nothing_is_lost(
        self, browser: Any, live: str, url: str, fleet: Fleet
    ) -> None:
        with page(browser) as (opened, seen):
            opened.clock.install()
            opened.goto(live)
            opened.get_by_text("Up to date at").wait_for()
            opened.locator("#app0-releases-table summary").click()
            opened.locator(".cell.critical").first.focus()
            chosen = opened.evaluate("document.activeElement.id")
            with Store(url) as store:
                news = replace(alerts(fleet)[0], device="wien-002", rule="drift", told="input x moved <i>far</i>")
                store.raise_alerts([news])
                window = Window("brakes", digest("third"), "e" * 32, 0, time.time() - 60, time.time(), {800: 7})
                store.add("berlin-003", [window])
            time.sleep(5.5)
            opened.clock.run_for(11_000)
            opened.get_by_role("heading", name="4 open alerts").wait_for()
            assert "wien-002 input x moved <i>far</i>" in re.sub(r"\s+", " ", opened.locator("#said").inner_text())
            assert opened.evaluate("document.activeElement.id") == chosen
            assert opened.locator("#app0-releases-table").evaluate("e => e.open")
            assert opened.locator(".canvas canvas").count() == opened.locator(".canvas").count()
            assert seen.complaints == []

    def test_a_server_that_has_gone_is_told_and_the_page_stays(self, browser: Any, url: str, tmp_path: Path) -> None:
        with dashboard(tmp_path, url) as (address, process), page(browser) as (opened, _):
            opened.clock.install()
            opened.goto(f"{address}/")
            opened.get_by_text("Up to date at").wait_for()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            opened.clock.run_for(11_000)
            opened.get_by_text("No news since").wait_for()
            assert opened.locator(".cell").count() > 10


class TestCommand:
    def test_ends_in_good_order(self, url: str, tmp_path: Path) -> None:
        with dashboard(tmp_path, url) as (_, process):
            process.terminate()
            assert process.wait(60) == 0
            assert process.stderr
            assert process.stderr.read() == ""

    def test_a_report_of_some_devices_is_a_file(self, url: str, tmp_path: Path) -> None:
        (tmp_path / "fleet.toml").write_text('[devices.berlin-003]\nuri = "ssh://pi@berlin-003"\ntarget = "pi"\n')
        words = [sys.executable, "-m", "edgekit", "report", "berlin-003", "--no-pull", "--html", "out.html"]
        environment = {**os.environ, "EDGEKIT_STORE": url}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), done.stderr
        html = (tmp_path / "out.html").read_text("utf-8")
        assert "<h1>Latency of berlin-003</h1>" in html
        assert "hamburg" not in html.partition("<script")[0]

    def test_others_need_a_token(self, tmp_path: Path) -> None:
        words = [sys.executable, "-m", "edgekit", "dashboard", "--listen", "0.0.0.0:8321"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, json.dumps(done.stdout)) == (1, '""')
        assert done.stderr == "edgekit: 0.0.0.0:8321 can be reached by others — give them a token: --token-file FILE\n"
