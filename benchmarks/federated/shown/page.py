"""Page: all parts on one page of HTML that asks for nothing and runs nothing: plots are SVG, with their tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.federated.shown.chart import chart
from benchmarks.federated.shown.part import Part
from edgekit.page import render

STYLE = """
.chart { width: 100%; height: auto; max-width: 60rem; display: block; }
.chart text { fill: var(--soft); font-size: 12px; }
.chart path { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.chart line { stroke: var(--grid); }
.part > .told { max-width: 65rem; }
td, th { overflow-wrap: normal; }
"""


def page(parts: Sequence[Part], title: str = "Federated rounds") -> str:
    """Raises: ExtraNotInstalled without jinja2."""
    styles = (render.asset("assets/page.css"), STYLE)
    facts = {"title": title, "parts": parts, "styles": styles, "policy": render.policy(styles, ()), "chooses": False}
    return render.environment("benchmarks.federated.shown").get_template("shown.html").render(facts, chart=chart)
