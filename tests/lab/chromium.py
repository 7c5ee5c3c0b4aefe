"""Debian's Chromium, driven as a person would use it, and what it has to complain about."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
AXE = Path(__file__).parents[1] / "vendor/axe-core/axe.min.js.gz"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Seen:
    """What a page asked for, and what was said on its console."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    if not shutil.which(CHROMIUM):
        pytest.skip("needs Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def page(browser: Any, **how: Any) -> Iterator[tuple[Any, Seen]]:
    """An empty page, and what it will ask for and complain about. It takes no policy off, and no network away."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
    opened, seen = context.new_page(), Seen()
    opened.on("request", lambda request: seen.requests.append(request.url))
    opened.on("console", lambda message: seen.complaints.append(message.text))
    opened.on("pageerror", lambda error: seen.complaints.append(str(error)))
    yield opened, seen
    context.close()


def violations(opened: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and good practice, each as rule: element."""
    opened.evaluate(gzip.decompress(AXE.read_bytes()).decode())
    found = opened.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:200]}" for each in found for node in each["nodes"]
    ]
